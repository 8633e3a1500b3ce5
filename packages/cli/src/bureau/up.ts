/** `bureau up`: starts a Bureau on this machine, without root. */
import { existsSync, openSync } from "node:fs";
import { join } from "node:path";
import { bringUp, type UpResult } from "@bureau/instance/bring-up";
import type { NetworkChange } from "@bureau/instance/start-homeserver";
import { runSupervisor } from "@bureau/instance/supervisor";
import { replaceSupervisor } from "@bureau/instance/supervisor-lock";
import { supervisorStatus } from "@bureau/instance/supervisor-wire";
import { systemClock } from "@bureau/kit/clock";
import { BureauError, messageOf } from "@bureau/kit/errors";
import { shellWord } from "@bureau/kit/shell-words";
import { waitFor } from "@bureau/kit/wait-for";
import { buildDir } from "@bureau/os/build-dir";
import type { InstanceLayout } from "@bureau/os/layout";
import { makePrivateDir } from "@bureau/os/layout";
import { createLog } from "@bureau/os/log";
import { machineConfPath } from "@bureau/os/machine-conf";
import { parseListenAddress } from "@bureau/schema/homeserver-address";
import { defineCommand, defineFlags, type Invocation, UsageError } from "../command/command.ts";
import { layoutOf } from "../command/operator.ts";
import { readEgress } from "../command/read-egress.ts";
import { egressFlags, homeFlag, jsonFlag } from "../command/shared-flags.ts";
import { asTyped, typedCommand } from "../command/typed-command.ts";
import { statusOf } from "./status.ts";

const flags = defineFlags({
  ...homeFlag,
  ...jsonFlag,
  listen: {
    type: "string",
    value: "HOST:PORT",
    summary: "Let other Matrix clients reach the homeserver at this address; kept until --listen none",
  },
  ...egressFlags,
  foreground: { type: "boolean", summary: "Stay in this terminal; Ctrl-C stops everything" },
});
type Asked = Invocation<typeof flags>;

export const command = defineCommand({
  summary: "Start a Bureau on this machine, as you, without root",
  details:
    "Starts a homeserver, a fleet, this machine and a first agent, and returns when that agent has sent a message.\nRun again, it checks each step and starts only what is missing.",
  flags,
  examples: [
    "bureau up",
    "bureau up --listen 127.0.0.1:6167",
    "bureau up --home /srv/bureau-test --foreground",
  ],
  run,
});

/** A supervisor opens its socket at once. After this time it has failed. */
const SUPERVISOR_MS_MAX = 10_000;

async function run(invocation: Asked): Promise<void> {
  const layout = layoutOf(invocation);
  if (invocation.flags.foreground) return runInForeground(invocation, layout);
  using _interrupt = sayWhenInterrupted(invocation);
  const result = await bringUp({
    layout,
    steps: invocation.terminal,
    network: networkFlags(invocation),
    ensureSupervisor: () => ensureSupervisor(layout, invocation.env),
  });
  await present(invocation, result);
}

const networkFlags = (invocation: Asked): NetworkChange => ({
  listen: listenFlag(invocation),
  egress: readEgress(invocation.flags),
});

/** A shell's exit code for a command that a signal ended. */
const INTERRUPTED = { SIGINT: 130, SIGTERM: 143 } as const;

/** Ctrl-C does not reach the supervisor, which started the programs: prints how to continue and how to stop them. */
function sayWhenInterrupted({ terminal }: Asked): Disposable {
  const onSignal = (name: keyof typeof INTERRUPTED): void => {
    terminal.note(
      asTyped("Interrupted. What has started keeps running: bureau up continues, bureau down stops it."),
    );
    process.exit(INTERRUPTED[name]);
  };
  const names = Object.keys(INTERRUPTED) as (keyof typeof INTERRUPTED)[];
  for (const name of names) process.on(name, onSignal);
  return {
    [Symbol.dispose]: () => {
      for (const name of names) process.off(name, onSignal);
    },
  };
}

/** @throws UsageError */
function listenFlag(invocation: Asked): string | undefined {
  const typed = invocation.flags.listen;
  if (typed === undefined || typed === "none") return typed;
  const hint = "bureau up --listen 127.0.0.1:6167, or --listen none";
  try {
    const address = parseListenAddress(typed);
    if (address.kind === "tcp" && address.port > 0) return typed;
  } catch (error) {
    throw new UsageError(messageOf(error), hint);
  }
  throw new UsageError(`--listen "${typed}" is not HOST:PORT with a port above 0`, hint);
}

const answers = (layout: InstanceLayout): Promise<true | undefined> =>
  supervisorStatus(layout).then(
    () => true,
    () => undefined,
  );

/** Starts a supervisor in its own session, unless one answers. */
async function ensureSupervisor(
  layout: InstanceLayout,
  env: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  if ((await answers(layout)) === true) return;
  // An unreachable supervisor, with its socket removed, would keep every other from starting.
  (await replaceSupervisor(layout, systemClock))[Symbol.dispose]();
  const log = openSync(join(layout.logDir, "supervisor.log"), "a", 0o600);
  const child = Bun.spawn([join(buildDir(), "bin", "bureau-supervisor"), "--home", layout.home], {
    cwd: "/",
    env: { ...env },
    stdin: "ignore",
    stdout: log,
    stderr: log,
    detached: true,
  });
  child.unref();
  if (
    (await waitFor(() => answers(layout), { timeoutMs: SUPERVISOR_MS_MAX, clock: systemClock })) === undefined
  )
    throw new BureauError("failed", "Cannot start the supervisor: it does not answer", {
      hint: `read ${join(layout.logDir, "supervisor.log")}`,
    });
}

async function runInForeground(invocation: Asked, layout: InstanceLayout): Promise<void> {
  const { terminal } = invocation;
  if ((await answers(layout)) === true)
    throw new BureauError("conflict", `The instance "${layout.home}" is up already`, { hint: "bureau down" });
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort());
  makePrivateDir(layout.home);
  const log = createLog("bureau-supervisor", { level: "warn" });
  const supervised = runSupervisor(
    { layout, buildDir: buildDir() },
    { log, env: invocation.env },
    stop.signal,
  );
  try {
    const ready = async (): Promise<void> => {
      await waitFor(() => answers(layout), { timeoutMs: SUPERVISOR_MS_MAX, clock: systemClock });
    };
    const result = await Promise.race([
      bringUp({ layout, steps: terminal, network: networkFlags(invocation), ensureSupervisor: ready }),
      supervised.then(() => undefined),
    ]);
    if (result !== undefined) {
      await present(invocation, result);
      terminal.say("\nCtrl-C stops everything.");
    }
  } catch (error) {
    stop.abort();
    await supervised;
    throw error;
  }
  await supervised;
}

async function present(invocation: Asked, result: UpResult): Promise<void> {
  const { terminal } = invocation;
  if (invocation.flags.json) {
    const status = await statusOf({ kind: "rootless", ...result.instance, instance: result.instance });
    terminal.json({ ...status, greeting: result.greeting ?? null, first_run: result.firstRun });
    return;
  }
  const { bold } = terminal.style;
  const command = typedCommand();
  const next = [
    ["status", "what runs here"],
    ...(result.greeting === undefined
      ? []
      : [
          ["matrix send bureau/lobby hello", "talk to the greeter …"],
          ["matrix messages bureau/lobby", "… and read its answer"],
        ]),
    ["agent create demo --command 'echo hello; sleep 1000'", "an agent of your own"],
    ["agent logs demo", "what it prints"],
    ["down", "stop everything; the data stays"],
  ];
  // On a machine of a fleet, commands are about that machine by default; elsewhere, about the default folder.
  const home = result.instance.layout.home;
  const named = invocation.flags["home"] !== undefined;
  const member = existsSync(machineConfPath(invocation.env)) && (invocation.env["BUREAU_HOME"] ?? "") === "";
  const why = member
    ? "this host is also a machine of a fleet: selects this instance"
    : "or --home with each of these";
  const width = Math.max(...next.map(([typed = ""]) => typed.length));
  terminal.say(`
${bold("Bureau is up.")} All its files are in ${home}

Type next:${named || member ? `\n  export BUREAU_HOME=${shellWord(home)}  # ${why}` : ""}
${next.map(([typed = "", what]) => `  ${command} ${typed.padEnd(width)}  ${what}`).join("\n")}`);
}
