/** Flags that commands about other machines share. */
import { defineFlags, type FlagValues } from "../command/command.ts";

export const sshFlags = defineFlags({
  "ssh-option": {
    type: "string",
    value: "KEY=VALUE",
    multiple: true,
    summary: "Option for ssh; goes before those of your ssh configuration",
  },
});

export type SshValues = FlagValues<typeof sshFlags>;
