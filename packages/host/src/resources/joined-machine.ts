/** First boot: the machine's account, its published key, its session. They are in the state folder, and go with that. */
import { BureauError } from "@bureau/kit/errors";
import { systemHost } from "@bureau/os/layout";
import { readMachineConf } from "@bureau/os/machine-conf";
import * as v from "valibot";
import { firstBoot } from "../system/first-boot.ts";
import { defineAction } from "./resource.ts";

const action = defineAction(v.object({ kind: v.literal("join") }), {
  rank: 150,
  attemptsMax: 1,
  isVital: true,
  startsPrograms: true,
  describe: () => "first boot: join the fleet with the bootstrap file",
  async apply(_, { bootstrap }) {
    const conf = readMachineConf(systemHost.machineConf);
    if (conf === undefined)
      throw new BureauError("not-found", `Cannot join: there is no "${systemHost.machineConf}"`);
    if (bootstrap === undefined)
      throw new BureauError("invalid-input", "Cannot join: no bootstrap file was given", {
        hint: "give --bootstrap-file FILE",
      });
    await firstBoot(conf, bootstrap);
  },
});

export const joinedMachine = { action };
