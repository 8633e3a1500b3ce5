/** Every command of `bureau`, in the order people meet them. The implementations are imported when they are run. */
import { type CommandGroup, homeFlag, jsonFlag, sessionFlags } from "./command/command.ts";

const machineFlag = {
  machine: {
    type: "string",
    value: "NAME",
    summary: "The machine: its name or full localpart (default: this one)",
  },
} as const;

export const root: CommandGroup = {
  name: "bureau",
  summary: "Bureau runs AI agents in sandboxes on your own Linux machines.",
  examples: ["bureau up", "bureau agent create demo --command 'echo hello; sleep 1000'", "bureau status"],
  commands: [
    {
      name: "up",
      summary: "Start a Bureau on this machine, as you, without root",
      details:
        "Starts a homeserver, a fleet, this machine and a first agent, and returns when that agent has spoken.\nRun again it checks each step and starts only what is missing.",
      flags: {
        ...homeFlag,
        ...jsonFlag,
        foreground: { type: "boolean", summary: "Stay in this terminal; Ctrl-C stops everything" },
      },
      examples: ["bureau up", "bureau up --home /srv/bureau-test --foreground"],
      load: () => import("./commands/up.ts"),
    },
    {
      name: "down",
      summary: "Stop everything the instance runs; its data stays",
      flags: { ...homeFlag, ...jsonFlag },
      examples: ["bureau down"],
      load: () => import("./commands/down.ts"),
    },
    {
      name: "status",
      summary: "Show what this machine runs",
      flags: { ...homeFlag, ...jsonFlag },
      examples: ["bureau status", "bureau status --json"],
      load: () => import("./commands/status.ts"),
    },
    {
      name: "login",
      summary: "Log in as an operator; the session is kept in a file of yours",
      positionals: [{ name: "username", summary: "Localpart or full user ID" }],
      flags: {
        ...homeFlag,
        homeserver: { type: "string", value: "URL", summary: "The homeserver (default: the instance's)" },
        "password-file": {
          type: "string",
          value: "PATH",
          summary: 'File with the password; "-" for standard input',
        },
      },
      examples: ["bureau login alice", "pass bureau/alice | bureau login alice --password-file -"],
      load: () => import("./commands/login.ts"),
    },
    {
      name: "whoami",
      summary: "Show whose session the commands use",
      flags: { ...sessionFlags, ...jsonFlag },
      examples: ["bureau whoami"],
      load: () => import("./commands/whoami.ts"),
    },
    {
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
            "no-wait": { type: "boolean", summary: "Return before the machine has started it" },
          },
          examples: [
            "bureau agent create demo --command 'echo hello; sleep 1000'",
            "bureau agent create bureau/template:greeter --name doorman --json",
          ],
          load: () => import("./commands/agent-create.ts"),
        },
        {
          name: "list",
          summary: "List the agents assigned to a machine",
          flags: { ...sessionFlags, ...jsonFlag, ...machineFlag },
          examples: ["bureau agent list"],
          load: () => import("./commands/agent-list.ts"),
        },
        {
          name: "show",
          summary: "Show an agent's assignment and what it is doing",
          positionals: [{ name: "name", summary: "The agent" }],
          flags: { ...sessionFlags, ...jsonFlag, ...machineFlag },
          examples: ["bureau agent show demo"],
          load: () => import("./commands/agent-show.ts"),
        },
        {
          name: "logs",
          summary: "Print the last lines of an agent's terminal",
          positionals: [{ name: "name", summary: "The agent" }],
          flags: {
            ...sessionFlags,
            ...jsonFlag,
            lines: { type: "string", short: "n", value: "N", summary: "How many lines (default: 200)" },
          },
          examples: ["bureau agent logs demo", "bureau agent logs demo -n 20"],
          load: () => import("./commands/agent-logs.ts"),
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
            "no-wait": { type: "boolean", summary: "Return before the machine has stopped it" },
          },
          examples: ["bureau agent destroy demo"],
          load: () => import("./commands/agent-destroy.ts"),
        },
      ],
    },
    {
      name: "machine",
      summary: "The machines of the fleet",
      commands: [
        {
          name: "list",
          summary: "List the machines of the fleet",
          flags: { ...sessionFlags, ...jsonFlag },
          examples: ["bureau machine list"],
          load: () => import("./commands/machine-list.ts"),
        },
        {
          name: "show",
          summary: "Show a machine's hardware, state and assignments",
          positionals: [
            { name: "machine", summary: "Name or full localpart (default: this one)", optional: true },
          ],
          flags: { ...sessionFlags, ...jsonFlag },
          examples: ["bureau machine show", "bureau machine show gpu-box --json"],
          load: () => import("./commands/machine-show.ts"),
        },
      ],
    },
    {
      name: "template",
      summary: "What agents and services are made from",
      commands: [
        {
          name: "list",
          summary: "List the templates of a room",
          positionals: [
            { name: "room", summary: "Room localpart (default: bureau/template)", optional: true },
          ],
          flags: { ...sessionFlags, ...jsonFlag },
          examples: ["bureau template list"],
          load: () => import("./commands/template-list.ts"),
        },
        {
          name: "show",
          summary: "Show a template with everything it inherits",
          positionals: [{ name: "ref", summary: "Template reference, bureau/template:agent" }],
          flags: {
            ...sessionFlags,
            ...jsonFlag,
            raw: { type: "boolean", summary: "Only what it says itself" },
          },
          examples: ["bureau template show bureau/template:agent"],
          load: () => import("./commands/template-show.ts"),
        },
        {
          name: "publish",
          summary: "Publish a template from a JSON file",
          details: "The file is checked, and so is everything it inherits from, before anything is written.",
          positionals: [{ name: "ref", summary: "Template reference, bureau/template:mine" }],
          flags: {
            ...sessionFlags,
            ...jsonFlag,
            file: { type: "string", value: "PATH", summary: 'JSON file; "-" for standard input' },
            "dry-run": { type: "boolean", summary: "Check and show, write nothing" },
          },
          examples: ["bureau template publish bureau/template:web --file web.json"],
          load: () => import("./commands/template-publish.ts"),
        },
      ],
    },
    {
      name: "matrix",
      summary: "Rooms, state and messages, directly",
      commands: [
        {
          name: "room",
          summary: "Rooms you are in",
          commands: [
            {
              name: "list",
              summary: "List the rooms you are in",
              flags: { ...sessionFlags, ...jsonFlag },
              examples: ["bureau matrix room list"],
              load: () => import("./commands/matrix-room-list.ts"),
            },
            {
              name: "members",
              summary: "List who is in a room",
              positionals: [{ name: "room", summary: "Alias, its localpart, or room ID" }],
              flags: { ...sessionFlags, ...jsonFlag },
              examples: ["bureau matrix room members bureau/lobby"],
              load: () => import("./commands/matrix-room-members.ts"),
            },
            {
              name: "create",
              summary: "Create a room",
              positionals: [{ name: "alias", summary: "Localpart of its alias" }],
              flags: {
                ...sessionFlags,
                ...jsonFlag,
                name: { type: "string", value: "TEXT", summary: "Its name" },
                topic: { type: "string", value: "TEXT", summary: "Its topic" },
                invite: { type: "string", value: "USER", multiple: true, summary: "Invite a user ID" },
              },
              examples: ["bureau matrix room create team/build --name 'Build' --invite @alice:bureau.local"],
              load: () => import("./commands/matrix-room-create.ts"),
            },
          ],
        },
        {
          name: "state",
          summary: "State events of a room",
          commands: [
            {
              name: "get",
              summary: "Print state of a room: all of it, a type, or one event",
              positionals: [
                { name: "room", summary: "Alias, its localpart, or room ID" },
                { name: "type", summary: "Event type", optional: true },
              ],
              flags: {
                ...sessionFlags,
                ...jsonFlag,
                key: { type: "string", value: "KEY", summary: "State key: print only that event's content" },
              },
              examples: ["bureau matrix state get bureau/template m.bureau.template --key agent"],
              load: () => import("./commands/matrix-state-get.ts"),
            },
            {
              name: "set",
              summary: "Write a state event",
              positionals: [
                { name: "room", summary: "Alias, its localpart, or room ID" },
                { name: "type", summary: "Event type" },
                { name: "content", summary: 'JSON object, or "-" for standard input' },
              ],
              flags: {
                ...sessionFlags,
                ...jsonFlag,
                key: { type: "string", value: "KEY", summary: "State key (default: empty)" },
              },
              examples: [`bureau matrix state set bureau/lobby m.room.topic '{"topic":"Say hello"}'`],
              load: () => import("./commands/matrix-state-set.ts"),
            },
          ],
        },
        {
          name: "send",
          summary: "Send a text message to a room",
          positionals: [
            { name: "room", summary: "Alias, its localpart, or room ID" },
            { name: "text", summary: "The message", rest: true },
          ],
          flags: { ...sessionFlags, ...jsonFlag },
          examples: ["bureau matrix send bureau/lobby hello"],
          load: () => import("./commands/matrix-send.ts"),
        },
        {
          name: "messages",
          summary: "Print the last messages of a room",
          positionals: [{ name: "room", summary: "Alias, its localpart, or room ID" }],
          flags: {
            ...sessionFlags,
            ...jsonFlag,
            limit: { type: "string", value: "N", summary: "How many (default: 20)" },
          },
          examples: ["bureau matrix messages bureau/lobby"],
          load: () => import("./commands/matrix-messages.ts"),
        },
      ],
    },
    {
      name: "completion",
      summary: "Print a completion script for your shell",
      positionals: [{ name: "shell", summary: "bash, zsh or fish" }],
      examples: ["bureau completion bash > ~/.local/share/bash-completion/completions/bureau"],
      load: () => import("./commands/completion.ts"),
    },
    {
      name: "version",
      summary: "Print the version",
      flags: { ...jsonFlag },
      examples: ["bureau version"],
      load: () => import("./commands/version.ts"),
    },
  ],
};
