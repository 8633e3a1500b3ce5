/** The socket of the tmux server, made again without ending what runs in the server (tmux(1), SIGUSR1). */
import { tmuxServerUnit } from "@bureau/os/unit-names";
import * as v from "valibot";
import { asSystemUser, readAccounts } from "../system/accounts.ts";
import { mustRun } from "../system/run-command.ts";
import { defineAction } from "./resource.ts";

const action = defineAction(v.object({ kind: v.literal("renew-tmux-socket"), path: v.string() }), {
  rank: 170,
  describe: ({ path }) => `let tmux make ${path} again`,
  async apply({ path }) {
    // As the system user, whose folder it is in: root would follow a link that stands there.
    await mustRun([...asSystemUser(readAccounts()), "rm", "-f", "--", path]);
    await mustRun(["systemctl", "kill", "--kill-whom=main", "--signal=SIGUSR1", tmuxServerUnit]);
  },
});

export const tmuxSocket = { action };
