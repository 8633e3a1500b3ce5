/** `bureau machine`: commands about the machines of the fleet. */
import {
  adminTokenFlag,
  type CommandGroup,
  egressFlagTable,
  homeFlag,
  jsonFlag,
  sessionFlags,
} from "../command/command.ts";
import { sshFlags } from "../remote/ssh-flags.ts";
import { fleetFlag } from "./fleet-flag.ts";

const machineArgument = { name: "machine", summary: "Its name in the fleet, or full localpart" } as const;

const dryRunFlag = {
  "dry-run": { type: "boolean", summary: "Show what would be done, do nothing" },
} as const;

const uninstallFlags = {
  "remove-user": { type: "boolean", summary: "Uninstall: also remove the system user and the groups" },
  "remove-packages": { type: "boolean", summary: "Uninstall: also remove packages that a fix installed" },
  "keep-data": {
    type: "boolean",
    excludes: ["discard-data"],
    summary: "Uninstall: leave files in workspace and cache",
  },
  "discard-data": { type: "boolean", summary: "Uninstall: remove files in workspace and cache" },
} as const;

/** The same for the doctor, which uninstalls only when told to. */
const doctorUninstallFlags = Object.fromEntries(
  Object.entries(uninstallFlags).map(([name, flag]) => [name, { ...flag, needs: ["uninstall"] }]),
);

/** With these flags the doctor runs no checks and acts on this host's record. */
const byRecord = ["undo", "uninstall"] as const;

const doctorFlags = {
  check: {
    type: "string",
    value: "ID",
    multiple: true,
    excludes: byRecord,
    summary: "Only this check (docs/doctor.md lists them)",
  },
  fix: { type: "boolean", excludes: byRecord, summary: "Repair what can be repaired" },
  undo: { type: "boolean", excludes: ["uninstall"], summary: "Put back what the last fix replaced" },
  uninstall: { type: "boolean", summary: "Remove Bureau from this host, as bureau machine uninstall does" },
  "dry-run": { ...dryRunFlag["dry-run"], needs: ["fix", ...byRecord] },
  homeserver: {
    type: "string",
    value: "URL",
    excludes: byRecord,
    summary: "Which machine this is: its homeserver",
  },
  "machine-name": {
    type: "string",
    value: "LOCALPART",
    excludes: byRecord,
    summary: "Which machine this is: its full localpart",
  },
  ...Object.fromEntries(
    Object.entries(egressFlagTable).map(([name, flag]) => [name, { ...flag, excludes: byRecord }]),
  ),
  "server-name": {
    type: "string",
    value: "NAME",
    excludes: byRecord,
    summary: "Which machine this is: its Matrix server name",
  },
  fleet: {
    type: "string",
    value: "LOCALPART",
    excludes: byRecord,
    summary: "Which machine this is: its fleet",
  },
  "bootstrap-file": {
    type: "string",
    value: "PATH",
    excludes: byRecord,
    summary: 'What bureau machine provision made, "-" for standard input; says which machine this is, too',
  },
  operator: {
    type: "string",
    value: "USER",
    excludes: byRecord,
    summary: "Who becomes an operator (default: you)",
  },
  system: { type: "boolean", summary: "The system installation, though there is a rootless one" },
  elevated: { type: "boolean", summary: "Set by the doctor when it runs itself through sudo" },
  home: {
    ...homeFlag.home,
    excludes: ["system", "homeserver", "machine-name", "server-name", "fleet", "bootstrap-file", ...byRecord],
  },
  "called-as": {
    type: "string",
    value: "COMMAND",
    needs: ["elevated"],
    summary: "Set with --elevated: the command as a person types it",
  },
  "plan-shown": {
    type: "string",
    value: "DIGEST",
    needs: ["elevated"],
    summary: "Set with --elevated: the plan that was shown",
  },
} as const;

/** These flags start a rollout; its later state is in Matrix. */
const manyMachines = ["all", "label"] as const;

const upgradeFlags = {
  local: { type: "boolean", excludes: [...manyMachines, "resume"], summary: "This host's machine" },
  all: { type: "boolean", excludes: ["label", "resume"], summary: "Every machine of the fleet" },
  label: {
    type: "string",
    value: "K=V",
    multiple: true,
    excludes: ["resume"],
    summary: "Machines with this label",
  },
  "host-env": {
    type: "string",
    value: "PATH",
    excludes: ["rollback", "resume"],
    summary: "The host environment to run",
  },
  "on-machine": {
    type: "boolean",
    needs: ["host-env"],
    summary: "It lies on the machine, or in the fleet's Nix cache: do not look for it here",
  },
  rollback: {
    type: "boolean",
    excludes: [...manyMachines, "resume"],
    summary: "Return to the previous version",
  },
  wait: { type: "boolean", summary: "Wait for the outcome (a rollout always does)" },
  timeout: {
    type: "string",
    value: "DURATION",
    needs: ["wait", ...manyMachines],
    excludes: ["resume"],
    summary: "How long a machine may take (default: 5m)",
  },
  "dry-run": { ...dryRunFlag["dry-run"], excludes: ["resume"] },
  canary: {
    type: "string",
    value: "N",
    needs: manyMachines,
    summary: "Machines to upgrade first (default: 1)",
  },
  batch: {
    type: "string",
    value: "N",
    needs: manyMachines,
    summary: "Machines in each batch after that (default: 5)",
  },
  "halt-on-error": {
    type: "boolean",
    needs: manyMachines,
    excludes: ["keep-going"],
    summary: "Stop when one fails (the default)",
  },
  "keep-going": {
    type: "boolean",
    needs: manyMachines,
    excludes: ["rollback-on-error"],
    summary: "Continue when one fails, unless it is one of the first machines",
  },
  "rollback-on-error": { type: "boolean", needs: manyMachines, summary: "When one fails, roll all back" },
  "wait-offline": {
    type: "boolean",
    needs: manyMachines,
    summary: "Wait for machines that are offline instead of skipping them",
  },
  resume: { type: "string", value: "ROLLOUT", summary: "Continue a rollout" },
} as const;

export const machine: CommandGroup = {
  name: "machine",
  summary: "The machines of the fleet",
  commands: [
    {
      name: "list",
      summary: "List the machines of the fleet",
      positionals: [
        { name: "fleet", summary: "NAMESPACE/fleet/NAME (default: this machine's)", optional: true },
      ],
      flags: { ...sessionFlags, ...jsonFlag, ...fleetFlag },
      examples: ["bureau machine list", "bureau machine list bureau/fleet/prod"],
      load: () => import("../machine/list.ts"),
    },
    {
      name: "show",
      summary: "Show a machine's hardware, state and assignments",
      positionals: [
        { name: "machine", summary: "Name or full localpart (default: this one)", optional: true },
      ],
      flags: { ...sessionFlags, ...jsonFlag, ...fleetFlag },
      examples: ["bureau machine show", "bureau machine show gpu-box --json"],
      load: () => import("../machine/show.ts"),
    },
    {
      name: "config",
      summary: "Show what cannot be read in a machine's configuration, and remove it",
      details:
        "A field that cannot be read keeps the machine at its last good configuration. --repair removes such fields and\nassignments, and replaces an invalid list of assignments with the last valid list.",
      positionals: [
        { name: "machine", summary: "Name or full localpart (default: this one)", optional: true },
      ],
      flags: {
        ...{ ...sessionFlags, ...jsonFlag, ...fleetFlag },
        repair: { type: "boolean", summary: "Remove what cannot be read" },
      },
      examples: ["bureau machine config", "bureau machine config gpu-box --repair"],
      load: () => import("../machine/config.ts"),
    },
    {
      name: "label",
      summary: "Say what a machine is for or has, for choosing among machines",
      details:
        "Labels are KEY=VALUE; KEY= takes one away. Without any, shows those it has. They choose machines for\nbureau machine upgrade --label, and stay when the machine starts again.",
      positionals: [
        machineArgument,
        { name: "label", summary: "KEY=VALUE, or KEY= to take it away", optional: true, rest: true },
      ],
      flags: { ...sessionFlags, ...jsonFlag, ...fleetFlag },
      examples: ["bureau machine label gpu-box gpu=a100 ring=canary", "bureau machine label gpu-box ring="],
      load: () => import("../machine/label.ts"),
    },
    {
      name: "deploy",
      summary: "Make a host a machine of the fleet, over ssh",
      details:
        "Checks the host, gives it its place in the fleet, brings the programs, runs doctor --fix there and waits for its\nheartbeat. Interrupted, it goes on when it is run again; run after success, it checks that everything is in place.",
      positionals: [
        { name: "target", summary: "ssh://root@host, ssh://user@host:port (with sudo), or local" },
      ],
      flags: {
        ...sessionFlags,
        ...jsonFlag,
        ...sshFlags,
        "machine-name": {
          type: "string",
          value: "NAME",
          summary: "Its name or full localpart (default: the host's own name)",
        },
        ...fleetFlag,
        ...adminTokenFlag,
        "server-name": {
          type: "string",
          value: "NAME",
          summary: "The Matrix server's name (default: the session's)",
        },
        operator: {
          type: "string",
          value: "USER",
          summary: "Who there may use Bureau without root (default: who logs in, unless root)",
        },
        "install-nix": {
          type: "boolean",
          excludes: ["no-nix"],
          summary: "Install Nix there with its own package manager, if there is none",
        },
        "no-nix": {
          type: "boolean",
          summary: "Bring the programs as an archive, also where there is Nix",
        },
        ...dryRunFlag,
      },
      examples: [
        "bureau machine deploy ssh://root@new-host",
        "bureau machine deploy ssh://admin@10.0.0.7:2222 --machine-name gpu-box --dry-run",
        "bureau machine deploy local",
      ],
      load: () => import("../machine/deploy.ts"),
    },
    {
      name: "upgrade",
      summary: "Let machines run other binaries of Bureau, or those from before",
      details:
        "Publishes the wanted version in each machine's configuration; the machine checks it, replaces its programs in\nplace, and goes back by itself when they do not work. Many machines are a rollout, whose state is in Matrix: first a\nfew, then batches. Ctrl-C only ends the command; the same command again, or --resume, goes on (docs/rollouts.md).",
      positionals: [{ name: "machine", summary: "Its name in the fleet, or full localpart", optional: true }],
      flags: { ...sessionFlags, ...jsonFlag, ...fleetFlag, ...upgradeFlags },
      examples: [
        "bureau machine upgrade --local --host-env PATH --wait",
        "bureau machine upgrade gpu-box --rollback --wait",
        "bureau machine upgrade --all --host-env /nix/store/…-bureau-host-env --canary 1 --batch 5",
        "bureau machine upgrade --resume 20260131-093000-4f2a",
      ],
      load: () => import("../machine/upgrade.ts"),
    },
    {
      name: "provision",
      summary: "Prepare a machine's place in the fleet, and the file it joins with",
      details:
        "Makes an account with a one-time password, the machine's rooms and its invitations, and writes a bootstrap file\n(0600). Nothing is needed of the machine. Cut off and run again it goes on; a name whose machine has left, or never\ncame, gets a new password. The password is worth something until first boot replaces it, the machine is provisioned\nagain, or it is revoked: --expires only lets first boot refuse the file.",
      positionals: [machineArgument],
      flags: {
        ...sessionFlags,
        ...jsonFlag,
        ...fleetFlag,
        ...adminTokenFlag,
        output: {
          type: "string",
          value: "PATH",
          summary:
            'Where the bootstrap file goes (default: bootstrap-NAME.json here); "-" for standard output',
        },
        expires: {
          type: "string",
          value: "DURATION",
          summary: "First boot refuses the file after this long, such as 24h",
        },
        "machine-homeserver": {
          type: "string",
          value: "URL",
          summary: "The homeserver's address as the machine sees it (default: as you do)",
        },
      },
      examples: [
        "bureau machine provision gpu-box --expires 24h",
        "bureau machine provision bureau/fleet/prod/machine/gpu-box --output - | ssh gpu-box 'umask 077; cat > bootstrap.json'",
      ],
      load: () => import("../machine/provision.ts"),
    },
    {
      name: "decommission",
      summary: "Let a machine stop what it runs, and take it out of the fleet",
      details:
        "The machine stops its agents with a grace, says so and leaves; then its state is cleared, it is taken out of its\nrooms, and its account is locked. Cut off and run again it goes on. A machine that does not answer in time stays in\nthe fleet, unless --force or --offline is given.",
      positionals: [machineArgument],
      flags: {
        ...sessionFlags,
        ...jsonFlag,
        ...fleetFlag,
        ...adminTokenFlag,
        grace: {
          type: "string",
          value: "DURATION",
          excludes: ["offline"],
          summary: "What its agents have to end in, at most 10m (default: 60s)",
        },
        offline: { type: "boolean", summary: "Do not ask the machine: it is off or lost" },
        force: {
          type: "boolean",
          excludes: ["offline"],
          summary: "Remove it even if it does not answer in time",
        },
        "purge-agents": {
          type: "boolean",
          summary: "Also close the accounts of its agents that no other machine runs, for good",
        },
      },
      examples: [
        "bureau machine decommission gpu-box",
        "bureau machine decommission bureau/fleet/prod/machine/old --offline --purge-agents",
      ],
      load: () => import("../machine/decommission.ts"),
    },
    {
      name: "revoke",
      summary: "Cut off a machine that is no longer trusted, at once",
      details:
        "Closes its account, takes it out of every room, clears its state and publishes the revocation; its agents' sessions\nare ended. Its daemon destroys every sandbox as soon as it learns of it. Needs nothing of the machine.",
      positionals: [machineArgument],
      flags: {
        ...sessionFlags,
        ...jsonFlag,
        ...fleetFlag,
        ...adminTokenFlag,
        reason: { type: "string", value: "TEXT", mayBeEmpty: true, summary: "Reason, for the record" },
        "purge-agents": { type: "boolean", summary: "Close its agents' accounts, for good" },
      },
      examples: ["bureau machine revoke gpu-box --reason 'stolen'"],
      load: () => import("../machine/revoke.ts"),
    },
    {
      name: "doctor",
      summary: "Check a machine, repair it, or remove Bureau from it",
      details:
        "Looks at accounts, folders, sockets, units, configuration, homeserver, services, versions, space and clock, and\nchanges nothing. --fix repairs what can be repaired and makes a bare machine one of the fleet; it shows its plan and\nasks for sudo once. Exit code: 0 nothing fails, 1 something does, 2 it could not do its work.",
      positionals: [
        {
          name: "target",
          summary: "Another machine, ssh://user@host[:port] (default: this one)",
          optional: true,
        },
      ],
      flags: { ...doctorFlags, ...doctorUninstallFlags, ...sshFlags, ...jsonFlag },
      examples: [
        "bureau machine doctor",
        "bureau machine doctor ssh://root@gpu-box --fix",
        "bureau machine doctor --json --check homeserver --check clock",
        "bureau machine doctor --fix --homeserver http://matrix.internal:6167 --machine-name bureau/fleet/prod/machine/sharkbox --server-name bureau.local --fleet bureau/fleet/prod --bootstrap-file bootstrap.json",
        "bureau machine doctor --undo",
        "bureau machine doctor --uninstall --dry-run",
      ],
      load: () => import("../machine/doctor.ts"),
    },
    {
      name: "uninstall",
      summary: "Remove Bureau from this host: exactly what it made",
      details:
        "Stops everything and removes what the record /etc/bureau/installed.json tells of; ends with a receipt of what was\nremoved and what stays, and why. The user and the groups stay unless --remove-user is given.",
      flags: { ...uninstallFlags, ...dryRunFlag, ...jsonFlag },
      examples: [
        "bureau machine uninstall --dry-run",
        "bureau machine uninstall --remove-user --discard-data",
      ],
      load: () => import("../machine/uninstall.ts"),
    },
  ],
};
