/** Every command of `bureau`, in the order people meet them. */
import type { Command, CommandGroup } from "./command/command.ts";
import type { CommandPath } from "./command-files.ts";
import { declarations } from "./declarations.ts";
import type { CommandFile } from "./read-command-files.ts";

type At = (path: CommandPath) => Command;

const agent = (at: At): CommandGroup => ({
  name: "agent",
  summary: "Create, watch and remove agents",
  commands: [at("agent create"), at("agent list"), at("agent show"), at("agent logs"), at("agent destroy")],
});

const credential = (at: At): CommandGroup => ({
  name: "credential",
  summary: "Credentials that agents' proxies use, sealed to their machine",
  commands: [
    at("credential provision"),
    at("credential list"),
    at("credential rotate"),
    at("credential revoke"),
  ],
});

const service = (at: At): CommandGroup => ({
  name: "service",
  summary: "Services that agents call",
  commands: [at("service call"), at("service bind")],
});

const auth = (at: At): CommandGroup => ({
  name: "auth",
  summary: "What users and principals may do, and why",
  commands: [
    at("auth check"),
    at("auth grants"),
    at("auth allowances"),
    at("auth list"),
    at("auth grant"),
    at("auth allow"),
    at("auth revoke"),
  ],
});

const machine = (at: At): CommandGroup => ({
  name: "machine",
  summary: "The machines of the fleet",
  commands: [
    at("machine list"),
    at("machine show"),
    at("machine config"),
    at("machine label"),
    at("machine deploy"),
    at("machine upgrade"),
    at("machine provision"),
    at("machine decommission"),
    at("machine revoke"),
    at("machine doctor"),
    at("machine uninstall"),
  ],
});

const fleet = (at: At): CommandGroup => ({
  name: "fleet",
  summary: "Fleets: machines that are operated together",
  commands: [at("fleet create"), at("fleet list"), at("fleet use"), at("fleet cache")],
});

const rollout = (at: At): CommandGroup => ({
  name: "rollout",
  summary: "Upgrades of many machines",
  commands: [
    at("rollout start"),
    at("rollout resume"),
    at("rollout list"),
    at("rollout show"),
    at("rollout halt"),
  ],
});

const template = (at: At): CommandGroup => ({
  name: "template",
  summary: "Templates, from which agents and services are made",
  commands: [
    at("template list"),
    at("template show"),
    at("template publish"),
    at("template update"),
    at("template impact"),
  ],
});

const matrix = (at: At): CommandGroup => ({
  name: "matrix",
  summary: "Rooms, state and messages, directly",
  commands: [
    at("matrix setup"),
    {
      name: "user",
      summary: "People who can log in",
      commands: [at("matrix user create"), at("matrix user list"), at("matrix user invite")],
    },
    {
      name: "room",
      summary: "Rooms you are in",
      commands: [
        at("matrix room list"),
        at("matrix room members"),
        at("matrix room join"),
        at("matrix room create"),
      ],
    },
    {
      name: "state",
      summary: "State events of a room",
      commands: [at("matrix state get"), at("matrix state set")],
    },
    at("matrix send"),
    at("matrix messages"),
  ],
});

const debug = (at: At): CommandGroup => ({
  name: "debug",
  summary: "What this machine's daemon sees, for debugging",
  commands: [at("debug plan"), at("debug rooms"), at("debug state"), at("debug authorization")],
});

/** The tree has all commands; those without a file cannot run. */
export function commandTree(files: Readonly<Partial<Record<CommandPath, CommandFile>>>): CommandGroup {
  const at: At = (path) => ({
    ...declarations[path],
    name: path.slice(path.lastIndexOf(" ") + 1),
    load: async () => {
      const file = files[path];
      if (file === undefined) throw new Error(`This program does not have the command "${path}"`);
      return (await file()).command;
    },
  });
  return {
    name: "bureau",
    summary: "Bureau runs AI agents in sandboxes on your own Linux machines.",
    examples: ["bureau up", "bureau agent create demo --command 'echo hello; sleep 1000'", "bureau status"],
    commands: [
      at("up"),
      at("down"),
      at("status"),
      at("login"),
      at("logout"),
      at("whoami"),
      agent(at),
      credential(at),
      service(at),
      auth(at),
      machine(at),
      fleet(at),
      rollout(at),
      template(at),
      matrix(at),
      at("audit"),
      debug(at),
      at("completion"),
      at("version"),
    ],
  };
}
