/** `bureau agent`: commands about agents. */
import { adminTokenFlag, type CommandGroup, jsonFlag, sessionFlags } from "../command/command.ts";
import { fleetFlag } from "./fleet-flag.ts";

const machineFlag = {
  ...fleetFlag,
  machine: {
    type: "string",
    value: "NAME",
    summary: "The machine: its name or full localpart (default: this one)",
  },
} as const;

export const agent: CommandGroup = {
  name: "agent",
  summary: "Create, watch and remove agents",
  commands: [
    {
      name: "create",
      summary: "Create an agent and start it, or change one",
      details:
        "The agent gets a Matrix account, credentials sealed to the machine's key, and an assignment in the machine's\nconfiguration; the machine then starts it in a sandbox of its own.",
      positionals: [{ name: "name", summary: "Its name, or a template reference together with --name" }],
      flags: {
        ...sessionFlags,
        ...jsonFlag,
        ...machineFlag,
        name: {
          type: "string",
          value: "NAME",
          summary: "Its name, when the argument is a template reference",
        },
        template: { type: "string", value: "REF", summary: "Template (default: bureau/template:agent)" },
        command: {
          type: "string",
          value: "SHELL",
          summary: "Run this with /bin/sh -c instead of the template's command",
        },
        env: { type: "string", value: "K=V", multiple: true, summary: "Environment variable" },
        payload: { type: "string", value: "JSON", summary: "Payload object, merged over the template's" },
        credential: {
          type: "string",
          value: "NAME=FILE",
          multiple: true,
          summary: "Credential for its proxy, read from a file; the agent itself never sees it",
        },
        "restart-policy": {
          type: "string",
          value: "POLICY",
          summary: "always (default), on-failure or never",
        },
        room: {
          type: "string",
          value: "ROOM",
          multiple: true,
          summary: "A room it joins, alias or ID (default: the lobby)",
        },
        "new-credentials": {
          type: "boolean",
          summary: "Give an agent that exists already a new session",
        },
        ...adminTokenFlag,
        "no-wait": { type: "boolean", summary: "Return before the machine has started it" },
      },
      examples: [
        "bureau agent create demo --command 'echo hello; sleep 1000'",
        "bureau agent create bureau/template:greeter --name doorman --json",
      ],
      load: () => import("../agent/create.ts"),
    },
    {
      name: "list",
      summary: "List the agents assigned to a machine",
      flags: { ...sessionFlags, ...jsonFlag, ...machineFlag },
      examples: ["bureau agent list"],
      load: () => import("../agent/list.ts"),
    },
    {
      name: "show",
      summary: "Show an agent's assignment and what it is doing",
      positionals: [{ name: "name", summary: "The agent" }],
      flags: { ...sessionFlags, ...jsonFlag, ...machineFlag },
      examples: ["bureau agent show demo"],
      load: () => import("../agent/show.ts"),
    },
    {
      name: "logs",
      summary: "Print the last lines of an agent's terminal",
      details:
        "Only the agent's own machine can read its terminal; for another machine's agent this prints the command to type there.",
      positionals: [{ name: "name", summary: "The agent" }],
      flags: {
        ...sessionFlags,
        ...jsonFlag,
        ...machineFlag,
        lines: { type: "string", short: "n", value: "N", summary: "How many lines (default: 200)" },
      },
      examples: ["bureau agent logs demo", "bureau agent logs demo -n 20"],
      load: () => import("../agent/logs.ts"),
    },
    {
      name: "destroy",
      summary: "Stop an agent and remove its assignment and credentials",
      positionals: [{ name: "name", summary: "The agent" }],
      flags: {
        ...sessionFlags,
        ...jsonFlag,
        ...machineFlag,
        purge: {
          type: "boolean",
          summary: "Also deactivate its Matrix account; the name cannot be used again",
        },
        ...adminTokenFlag,
        "no-wait": { type: "boolean", summary: "Return before the machine has stopped it" },
      },
      examples: ["bureau agent destroy demo"],
      load: () => import("../agent/destroy.ts"),
    },
  ],
};
