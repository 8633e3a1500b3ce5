/** Every command of `bureau`, in the order people meet them. The implementations are imported when they are run. */
import { type CommandGroup, egressFlagTable, homeFlag, jsonFlag, sessionFlags } from "./command/command.ts";
import { agent } from "./tree/agent.ts";
import { fleet } from "./tree/fleet.ts";
import { machine } from "./tree/machine.ts";
import { matrix } from "./tree/matrix.ts";
import { rollout } from "./tree/rollout.ts";
import { template } from "./tree/template.ts";

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
        listen: {
          type: "string",
          value: "HOST:PORT",
          summary: "Let other Matrix clients reach the homeserver at this address; kept until --listen none",
        },
        ...egressFlagTable,
        foreground: { type: "boolean", summary: "Stay in this terminal; Ctrl-C stops everything" },
      },
      examples: [
        "bureau up",
        "bureau up --listen 127.0.0.1:6167",
        "bureau up --home /srv/bureau-test --foreground",
      ],
      load: () => import("./bureau/up.ts"),
    },
    {
      name: "down",
      summary: "Stop everything the instance runs; its data stays",
      flags: { ...homeFlag, ...jsonFlag },
      examples: ["bureau down"],
      load: () => import("./bureau/down.ts"),
    },
    {
      name: "status",
      summary: "Show what this machine runs",
      flags: { ...homeFlag, ...jsonFlag },
      examples: ["bureau status", "bureau status --json"],
      load: () => import("./bureau/status.ts"),
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
        ...jsonFlag,
      },
      examples: ["bureau login alice", "pass bureau/alice | bureau login alice --password-file -"],
      load: () => import("./bureau/login.ts"),
    },
    {
      name: "whoami",
      summary: "Show whose session the commands use",
      flags: { ...sessionFlags, ...jsonFlag },
      examples: ["bureau whoami"],
      load: () => import("./bureau/whoami.ts"),
    },
    agent,
    machine,
    fleet,
    rollout,
    template,
    matrix,
    {
      name: "completion",
      summary: "Print a completion script for your shell",
      positionals: [{ name: "shell", summary: "bash, zsh or fish" }],
      examples: ["bureau completion bash > ~/.local/share/bash-completion/completions/bureau"],
      load: () => import("./bureau/completion.ts"),
    },
    {
      name: "version",
      summary: "Print the version",
      flags: { ...jsonFlag },
      examples: ["bureau version"],
      load: () => import("./bureau/version.ts"),
    },
  ],
};
