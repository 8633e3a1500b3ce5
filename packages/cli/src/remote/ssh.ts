/**
 * {@link HostShell} for another machine, through the person's OpenSSH client, so that their configuration, agent, jump
 * hosts and known hosts apply.
 *
 * All commands share one connection: a first `ssh` logs in, becomes the master of a socket in a private folder, and waits
 * on a pipe that we hold, so that it ends when this process ends. Later commands use that socket without another login.
 * Where a host or a configuration forbids sharing, ssh connects again for each command.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { shellLine } from "@bureau/kit/shell-words";
import { inTime } from "@bureau/kit/wait-for";
import { type RunOptions, runToEnd } from "@bureau/os/run-to-end";
import { type HostShell, lastLines } from "./host-shell.ts";
import type { SshTarget } from "./target.ts";

export type SshOptions = {
  /** `KEY=VALUE` of ssh_config(5), before the person's configuration. */
  readonly options: readonly string[];
  /** ssh may ask a person for a password or about a host key. */
  readonly interactive: boolean;
  readonly signal?: AbortSignal;
};

export type SshShell = HostShell & {
  /** The `-o` options that let another program's ssh use this connection. */
  readonly connectionOptions: readonly string[];
};

/** What a host's TCP and ssh greeting may take, in seconds. */
const CONNECT_SECONDS_MAX = 15;
/** A dropped connection is noticed after four unanswered questions, 5 s apart. */
const ALIVE_SECONDS = 5;
const ALIVE_QUESTIONS = 4;
/** Limit of a login without a person; each jump host has its own connect timeout within it. */
const LOGIN_MS_MAX = 60_000;
/** Limit of a login when a person may have to find a password. */
const LOGIN_MS_MAX_INTERACTIVE = 300_000;
const CLOSE_MS_MAX = 2_000;
/** For the last output of ssh after it has ended. */
const SAID_MS_MAX = 1_000;
const SAID_CHARS_MAX = 32_768;
/** ssh's own exit code when it, not the remote command, failed (ssh(1)). */
const SSH_FAILED = 255;
const READY = "bureau-is-connected";

/** Values are handed to ssh as one argument; a line end would begin another option. */
const optionForm = /^[A-Za-z][A-Za-z0-9]*=[^\r\n\0]+$/u;

/** @throws BureauError `invalid-input` */
export function checkSshOptions(options: readonly string[]): void {
  const wrong = options.find((option) => !optionForm.test(option));
  if (wrong !== undefined)
    throw new BureauError("invalid-input", `"${wrong}" is not an ssh option`, {
      hint: "--ssh-option KEY=VALUE, for example --ssh-option IdentityFile=~/.ssh/fleet",
    });
}

/** Logs in. @throws BureauError `unavailable` that quotes ssh and hints at the remedy */
export async function sshShell(target: SshTarget, how: SshOptions): Promise<SshShell> {
  checkSshOptions(how.options);
  const name = target.user === undefined ? target.host : `${target.user}@${target.host}`;
  const folder = mkdtempSync("/tmp/bureau-ssh-");
  const socket = join(folder, "s");
  const shared = commonArguments(target, how);
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  const master = await startMaster([...masterOptions(socket), ...shared], name, how).catch(
    (error: unknown) => {
      remove();
      throw error;
    },
  );
  return {
    name,
    connectionOptions: [`ControlPath=${socket}`, "ControlMaster=no", ...how.options],
    run: (argv, options) =>
      runOver(["-S", socket, "-o", "ControlMaster=no", ...shared], argv, name, how, options),
    async [Symbol.asyncDispose]() {
      await master.close();
      remove();
    },
  };
}

const masterOptions = (socket: string): string[] => [
  "-S",
  socket,
  "-o",
  "ControlMaster=yes",
  "-o",
  "ControlPersist=no",
];

/** Options of every ssh we start, up to and with the host. The first value of an option is the one that ssh takes. */
function commonArguments(target: SshTarget, how: SshOptions): string[] {
  const options = [
    `BatchMode=${how.interactive ? "no" : "yes"}`,
    // Turn off what a person configures for interactive sessions.
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "EscapeChar=none",
    "LogLevel=ERROR",
    ...how.options,
    `ConnectTimeout=${CONNECT_SECONDS_MAX}`,
    `ServerAliveInterval=${ALIVE_SECONDS}`,
    `ServerAliveCountMax=${ALIVE_QUESTIONS}`,
  ];
  return [
    ...options.flatMap((option) => ["-o", option]),
    ...(target.port === undefined ? [] : ["-p", String(target.port)]),
    ...(target.user === undefined ? [] : ["-l", target.user]),
    "--",
    target.host,
  ];
}

async function runOver(
  ssh: readonly string[],
  argv: readonly string[],
  name: string,
  how: SshOptions,
  options: RunOptions,
) {
  const ran = await runToEnd(["ssh", ...ssh, shellLine(argv)], {
    ...options,
    what: `"${argv[0]}" on ${name}`,
    ...(how.signal === undefined ? {} : { signal: how.signal }),
  });
  if (ran.code !== SSH_FAILED) return ran;
  // When the shared connection ends, the ssh that uses it prints no reason.
  const dropped = new BureauError("unavailable", `The connection to ${name} dropped`, {
    hint: `check that the host is up: ssh ${name} true`,
  });
  throw cannotReach(name, ran.stderr, dropped);
}

/** The connection that the others share; ends when its standard input closes, and so with this process. */
async function startMaster(args: readonly string[], name: string, how: SshOptions) {
  const waiting = `echo ${READY} && exec cat >/dev/null`;
  let child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  try {
    child = Bun.spawn(["ssh", ...args, waiting], { cwd: "/", stdin: "pipe", stdout: "pipe", stderr: "pipe" });
  } catch (error) {
    throw new BureauError("unsupported", "Cannot run ssh", {
      hint: "install the OpenSSH client (openssh-client, openssh-clients)",
      cause: error,
    });
  }
  const close = async (): Promise<void> => {
    await Promise.resolve(child.stdin.end()).catch(() => {});
    const late = setTimeout(() => child.kill("SIGTERM"), CLOSE_MS_MAX);
    await child.exited;
    clearTimeout(late);
  };
  const stop = (): void => child.kill("SIGTERM");
  how.signal?.addEventListener("abort", stop, { once: true });
  let said = "";
  const heard = hear(child.stderr, (text) => {
    said = `${said}${text}`.slice(-SAID_CHARS_MAX);
  });
  const limitMs = how.interactive ? LOGIN_MS_MAX_INTERACTIVE : LOGIN_MS_MAX;
  const outcome = await Promise.race([
    sawReady(child.stdout),
    systemClock.sleep(limitMs, how.signal).then(() => "late" as const),
  ]);
  if (outcome === true) return { close };
  child.kill("SIGTERM");
  await child.exited;
  if (how.signal?.aborted) throw new BureauError("failed", `Connecting to ${name} was interrupted`);
  if (outcome === "late")
    throw new BureauError("timeout", `Cannot reach ${name}: not logged in within ${limitMs / 1000} s`, {
      hint: `check that this works: ssh ${name} true`,
    });
  // A program that ssh started may hold its output open.
  await inTime(heard, SAID_MS_MAX);
  const hungUp = new BureauError(
    "unavailable",
    `Cannot reach ${name}: its ssh server closed the connection`,
    {
      hint: hungUpHint(name),
    },
  );
  throw cannotReach(name, said, hungUp);
}

async function hear(output: ReadableStream<Uint8Array>, tell: (text: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  try {
    for await (const bytes of output) tell(decoder.decode(bytes, { stream: true }));
  } catch {
    // The output was closed.
  }
}

/** Resolves true when the marker arrives, false when the output ends first. Ignores other text that a login prints. */
async function sawReady(stdout: ReadableStream<Uint8Array>): Promise<boolean> {
  const decoder = new TextDecoder();
  const reader = stdout.getReader();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return false;
    text = `${text}${decoder.decode(value, { stream: true })}`.slice(-1000);
    if (text.includes(READY)) {
      // Keep reading, so that the program never blocks on a full pipe.
      void drain(reader);
      return true;
    }
  }
}

async function drain(reader: { read(): Promise<{ done: boolean }> }): Promise<void> {
  try {
    while (!(await reader.read()).done);
  } catch {
    // The output was closed.
  }
}

/** OpenSSH 10 does not log it at the level of errors. */
const hungUpHint = (name: string): string =>
  `the network works, but the ssh server closed the connection before its greeting. OpenSSH 9.8 and newer does so for a while, from seconds to ten minutes, after failed logins from one address (PerSourcePenalties): wait, then try: ssh ${name} true. If it never works, another program listens on that port`;

/** Messages of ssh, and the remedy for each. */
const remedies: readonly [RegExp, (name: string) => string][] = [
  [
    /has changed and you have requested strict checking|HOST IDENTIFICATION HAS CHANGED/u,
    (name) =>
      `the host's key is not the one you know: make sure it is the right host, then forget the old key (ssh-keygen -R ${name.slice(name.indexOf("@") + 1)})`,
  ],
  [
    /Host key verification failed/u,
    (name) => `the host's key is not known yet: run ssh ${name} once, compare and accept it`,
  ],
  [
    /Permission denied|Too many authentication failures/u,
    (name) => `no key was accepted: check that this works: ssh ${name} true`,
  ],
  // Before any greeting: an ssh server that drops the whole address (sshd_config(5), PerSourcePenalties, MaxStartups).
  [
    /kex_exchange_identification|banner exchange: Connection to|ssh_dispatch_run_fatal|Connection (?:closed|reset) by \S+ port|Not allowed at this time/u,
    hungUpHint,
  ],
  [/Could not resolve hostname/u, () => "check the host's name"],
  [/Connection refused/u, () => "check that an ssh server runs there, and its port (ssh://host:port)"],
  [/timed out|No route to host|unreachable/iu, () => "check that the host is up and its network reachable"],
];

/** `silent`: the error when ssh printed nothing. */
function cannotReach(name: string, stderr: string, silent: BureauError): BureauError {
  const lines = lastLines(stderr);
  if (lines.length === 0) return silent;
  const text = lines.join("\n");
  const found = remedies.find(([words]) => words.test(text));
  const hint = found?.[1](name) ?? `check that this works: ssh ${name} true`;
  const more = lines.length > 1 ? `\n${lines.map((line) => `  │ ${line}`).join("\n")}` : "";
  return new BureauError("unavailable", `Cannot reach ${name}: ${lines.at(-1)}${more}`, { hint });
}
