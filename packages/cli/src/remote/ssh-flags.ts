/** Flags that commands about other machines share. */
import type { Flag } from "../command/command.ts";

export const sshFlags: Readonly<Record<string, Flag>> = {
  "ssh-option": {
    type: "string",
    value: "KEY=VALUE",
    multiple: true,
    summary: "Option for ssh, before those of your configuration",
  },
};
