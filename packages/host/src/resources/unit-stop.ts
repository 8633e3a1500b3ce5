/** Units that are stopped: those of a machine that joins again, or that has not joined. */
import * as v from "valibot";
import { mustRun } from "../system/run-command.ts";
import { STOP_OR_START } from "../system/start-unit.ts";
import { defineAction } from "./resource.ts";

const action = defineAction(
  v.object({ kind: v.literal("stop"), units: v.pipe(v.array(v.string()), v.readonly()) }),
  {
    rank: 120,
    attemptsMax: 1,
    describe: ({ units }) => `stop ${units.join(" ")}`,
    async apply({ units }) {
      await mustRun(["systemctl", "stop", ...units], STOP_OR_START);
    },
  },
);

export const unitStop = { action };
