/** What a rollout takes: which machines, which build, and how it proceeds. `bureau machine upgrade --all` takes them, too. */
import { defineFlags, type FlagValues } from "../command/command.ts";
import { dryRunFlag } from "../command/shared-flags.ts";

export const machinesFlags = defineFlags({
  all: { type: "boolean", excludes: ["label"], summary: "Every machine of the fleet" },
  label: {
    type: "string",
    value: "K=V",
    multiple: true,
    summary: "Machines with this label; given twice, machines with both",
  },
});

export const buildFlags = defineFlags({
  "host-env": { type: "string", value: "PATH", summary: "The build to run (docs/host-environment.md)" },
  "on-machine": {
    type: "boolean",
    needs: ["host-env"],
    summary: "The build is on the machine, or in the fleet's Nix cache: do not look for it here",
  },
});

export const timeoutFlag = defineFlags({
  timeout: { type: "string", value: "DURATION", summary: "How long one machine may take (default: 5m)" },
});

export const orderFlags = defineFlags({
  canary: {
    type: "string",
    value: "N",
    summary: "Machines to upgrade first; the rest wait for them (default: 1)",
  },
  batch: { type: "string", value: "N", summary: "Machines in each batch after that (default: 5)" },
  "halt-on-error": {
    type: "boolean",
    excludes: ["keep-going"],
    summary: "Stop when a machine fails (the default)",
  },
  "keep-going": {
    type: "boolean",
    excludes: ["rollback-on-error"],
    summary: "Continue when a machine fails, unless it is one of the first",
  },
  "rollback-on-error": { type: "boolean", summary: "Roll back all machines when one fails" },
  "wait-offline": { type: "boolean", summary: "Wait for machines that are offline instead of skipping them" },
});

const flags = defineFlags({ ...machinesFlags, ...buildFlags, ...timeoutFlag, ...orderFlags, ...dryRunFlag });
export type RolloutValues = FlagValues<typeof flags>;
export type BuildValues = FlagValues<typeof buildFlags>;
