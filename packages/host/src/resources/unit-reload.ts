/** systemd reads its units again. */
import * as v from "valibot";
import { mustRun } from "../system/run-command.ts";
import { defineAction } from "./resource.ts";

const action = defineAction(v.object({ kind: v.literal("reload") }), {
  rank: 110,
  describe: () => "systemctl daemon-reload",
  async apply() {
    await mustRun(["systemctl", "daemon-reload"]);
  },
});

export const unitReload = { action };
