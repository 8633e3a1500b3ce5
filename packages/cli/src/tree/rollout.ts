/** `bureau rollout`: commands about upgrades of many machines. */
import { type CommandGroup, jsonFlag, sessionFlags } from "../command/command.ts";
import { fleetFlag } from "./fleet-flag.ts";

export const rollout: CommandGroup = {
  name: "rollout",
  summary: "Upgrades of many machines",
  commands: [
    {
      name: "list",
      summary: "List the rollouts of the fleet",
      flags: { ...sessionFlags, ...jsonFlag, ...fleetFlag },
      examples: ["bureau rollout list"],
      load: () => import("../rollout/list.ts"),
    },
    {
      name: "show",
      summary: "Show how far a rollout is, machine by machine",
      positionals: [{ name: "rollout", summary: "Its id" }],
      flags: { ...sessionFlags, ...jsonFlag, ...fleetFlag },
      examples: ["bureau rollout show 20260131-093000-4f2a"],
      load: () => import("../rollout/show.ts"),
    },
    {
      name: "halt",
      summary: "Let a rollout begin nothing more; machines under way finish",
      positionals: [{ name: "rollout", summary: "Its id" }],
      flags: { ...sessionFlags, ...jsonFlag, ...fleetFlag },
      examples: ["bureau rollout halt 20260131-093000-4f2a"],
      load: () => import("../rollout/halt.ts"),
    },
  ],
};
