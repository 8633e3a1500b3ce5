/**
 * The private tmux server with every sandbox's terminal. Its socket and configuration are in the run folder. Its environment
 * has only a locale, a shell and a PATH. It outlives the launcher.
 *
 * Commands address sessions exactly (`=name`): otherwise tmux also accepts a prefix of a name.
 */
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import type { Clock } from "@bureau/kit/clock";
import { BureauError, isBureauError } from "@bureau/kit/errors";
import { writeAtomically } from "@bureau/os/durable-file";
import { type Layout, tmuxConfig, tmuxSocket } from "@bureau/os/layout";
import { argumentsOf, findByArguments, signalProcess } from "@bureau/os/process-table";
import { type Ran, runToEnd } from "@bureau/os/run-to-end";
import { type Scope, scopeOf } from "./scope.ts";
import { TmuxControl } from "./tmux-control.ts";

/** The terminal inside a sandbox, before a client attaches. */
const COLUMNS = 160;
const ROWS = 48;
/** The terminal type of panes: TERM inside. */
export const PANE_TERM = "tmux-256color";
/** A screen of some thousand lines, each as wide as the terminal of an attached client, in characters of four bytes. */
const SCREEN_BYTES_MAX = 64 << 20;
/** A tmux client that takes longer than this hangs. */
const CLIENT_MS_MAX = 10_000;

/**
 * Limits the memory of the server that one sandbox uses, because the sandbox's control group does not count it: about 50 MB
 * at most (29 bytes for a cell that is styled and not ASCII).
 */
const HISTORY_LINES = 10_000;

// Session names have `~` for a dot; the status line shows the principal's name.
const configuration = `set -g exit-empty off
set -g destroy-unattached off
set -g remain-on-exit on
set -g prefix C-b
set -g mouse on
set -g history-limit ${HISTORY_LINES}
set -g default-shell /bin/sh
set -g default-terminal ${PANE_TERM}
set -g status-left-length 90
set -g status-left ' #{s|~|.|:#{s|^bureau/||:session_name}} '
`;

/**
 * A pane's script prints it last, and tmux keeps it as the pane's path (OSC 7), which nothing shows: when tmux has it, the
 * whole output before is on the screen. The string terminator before it ends an escape sequence that the program left open.
 */
const END_OF_OUTPUT = "bureau-end-of-output";
export const endOfOutput = `\\033\\\\\\033]7;${END_OF_OUTPUT}\\033\\\\`;

export type TmuxOptions = {
  /** The server has its own unit: the launcher waits for it and never starts it, because it would inherit its confinement. */
  readonly external: boolean;
  readonly clock: Clock;
};

/** For a server that systemd is starting, at boot or after a crash. */
const EXTERNAL_MS_MAX = 10_000;
const START_POLL_MS = 50;

export type Tmux = {
  /** Starts the server if none runs, or waits for it, and configures it. @throws BureauError */
  ensureServer(): Promise<void>;
  /** The server's process; undefined when none runs. */
  serverPid(): Promise<number | undefined>;
  /**
   * Starts `command` in a new session; returns the pane's pid. @throws BureauError with what tmux said; `unavailable` when
   * the server went away meanwhile, and what it had begun is unknown
   */
  newSession(session: string, folder: string, command: readonly string[]): Promise<number>;
  /**
   * True when the pane has printed {@link endOfOutput}, or its shell has exited: then its whole output is on the screen.
   * Undefined when there is no such session.
   */
  hasWholeOutput(session: string): Promise<boolean | undefined>;
  /** The pane's last `lines` lines, blank ones at the end cut off; undefined when there is no such session. */
  capture(session: string, lines: number): Promise<string | undefined>;
  /** The same without a client: the server writes the lines to `file`, which this function removes again. */
  captureThrough(file: string, session: string, lines: number): Promise<string | undefined>;
  /** No error when there is none. */
  killSession(session: string): Promise<void>;
  /** Every session's name and the pid of its first pane; empty when no server runs. */
  listSessions(): Promise<{ session: string; panePid: number }[]>;
  /** Closes the control connection; the next command opens it again. */
  disconnect(): void;
  /** Ends the server and everything in it. */
  killServer(): Promise<void>;
};

export function createTmux(layout: Layout, { external, clock }: TmuxOptions): Tmux {
  const own = external ? ["-N"] : ["-f", tmuxConfig(layout)];
  const base = ["tmux", "-u", "-S", tmuxSocket(layout), ...own];
  // A server that another program restarted does not have this configuration.
  const configured = ["source-file", tmuxConfig(layout), ";"];
  const run = (...args: string[]): Promise<Ran> => runClient([...base, ...args]);
  const serverPid = async (): Promise<number | undefined> => {
    const outcome = await run("display-message", "-p", "#{pid}");
    const pid = Number(outcome.stdout.trim());
    return outcome.code === 0 && pid > 0 ? pid : undefined;
  };
  /** If that fails, the server still runs; its control group shows the missing limits. */
  const startInScope = async (scope: Scope): Promise<void> => {
    await runClient([...scope.words, ...base, "start-server"], scope.env).catch(() => {});
  };
  const control = new TmuxControl(base, clientEnvironment());
  const ensureServer = async (): Promise<void> => {
    // Written atomically, because another client may start the server at the same time.
    writeAtomically(tmuxConfig(layout), configuration, 0o600);
    if (!external && (await serverPid()) === undefined) {
      const scope = scopeOf(process.getuid?.() ?? 0);
      if (scope !== undefined) await startInScope(scope);
    }
    const start = external ? ["source-file", tmuxConfig(layout)] : ["start-server"];
    await retryStart(() => run(...start), external ? EXTERNAL_MS_MAX : 0, clock);
    control.open();
  };
  /** Runs a command that may run twice: by a client of its own when the connection gives no answer. */
  const ask = async (...words: string[]): Promise<Pick<Ran, "code" | "stdout">> => {
    const answer = await control.run(words);
    if (typeof answer === "string") return await run(...words);
    return { code: answer.ok ? 0 : 1, stdout: answer.lines.join("\n") };
  };
  // Not as an answer of the control connection: a program's output could pass for the end of one.
  const capture = async (session: string, lines: number): Promise<string | undefined> => {
    const screen = await run("capture-pane", "-p", ...paneLines(session, lines));
    return screen.code === 0 ? lastLines(screen.stdout, lines) : undefined;
  };
  return {
    ensureServer,
    serverPid,
    async newSession(session, folder, command) {
      const words = newSessionWords(session, folder, command);
      const answer = await control.run(words);
      // Another server must not get the same command: both could run it.
      if (answer === "unanswered")
        throw new BureauError(
          "unavailable",
          `The tmux server went away while it made the session "${session}"`,
        );
      // The command would start a server outside of the scope.
      if (answer === "unsent" && !external) await ensureServer();
      const outcome =
        answer === "unsent"
          ? await run(...configured, ...words)
          : { code: answer.ok ? 0 : 1, stdout: answer.lines.join("\n"), stderr: answer.lines.join("\n") };
      control.open();
      const pid = Number(outcome.stdout.trim());
      if (outcome.code !== 0 || !(pid > 0)) throw tmuxError(`make the session "${session}"`, outcome);
      return pid;
    },
    async hasWholeOutput(session) {
      const ends = `#{||:#{pane_dead},#{==:#{pane_path},${END_OF_OUTPUT}}}`;
      const { code, stdout } = await ask("display-message", "-p", "-t", `=${session}:`, ends);
      return code === 0 ? stdout.trim() === "1" : undefined;
    },
    capture,
    captureThrough: async (file, session, lines) =>
      (await captureToFile(control, file, session, lines)) ?? (await capture(session, lines)),
    async killSession(session) {
      await ask("kill-session", "-t", `=${session}`);
    },
    async listSessions() {
      const outcome = await run("list-panes", "-a", "-F", "#{pane_pid} #{session_name}");
      return outcome.code === 0 ? parsePanes(outcome.stdout) : [];
    },
    disconnect() {
      control[Symbol.dispose]();
    },
    async killServer() {
      control[Symbol.dispose]();
      const ended = await run("kill-server").catch(() => undefined);
      if (ended?.code === 0 || external) return;
      // A hanging server would keep running.
      for (const process of findByArguments("-S", tmuxSocket(layout)))
        if (argumentsOf(process.pid)[0] === "tmux") signalProcess(process, "SIGKILL");
    },
  };
}

/** The name of the server's buffer between capturing and saving, which directly follow each other. */
const BUFFER = "bureau-screen";

/** Undefined when the connection gives no answer, when there is no such session, or when its screen is too large. */
async function captureToFile(
  control: TmuxControl,
  file: string,
  session: string,
  lines: number,
): Promise<string | undefined> {
  try {
    // tmux keeps the mode of a file that exists.
    writeFileSync(file, "", { mode: 0o600 });
    const answers = await Promise.all([
      control.run(["capture-pane", "-b", BUFFER, ...paneLines(session, lines)]),
      control.run(["save-buffer", "-b", BUFFER, file.replaceAll("#", "##")]),
      control.run(["delete-buffer", "-b", BUFFER]),
    ]);
    const isSaved = answers.every((answer) => typeof answer !== "string" && answer.ok);
    if (!isSaved || statSync(file).size > SCREEN_BYTES_MAX) return undefined;
    return lastLines(readFileSync(file, "utf8"), lines);
  } finally {
    rmSync(file, { force: true });
  }
}

const paneLines = (session: string, lines: number): string[] => [
  "-J",
  "-S",
  `-${lines}`,
  "-t",
  `=${session}:`,
];

const newSessionWords = (session: string, folder: string, command: readonly string[]): string[] => [
  ...["new-session", "-d", "-P", "-F", "#{pane_pid}", "-x", String(COLUMNS), "-y", String(ROWS)],
  ...["-c", folder, "-s", session, ...command],
];

/** Lines of `PID SESSION`. */
const parsePanes = (text: string): { session: string; panePid: number }[] =>
  text
    .split("\n")
    .filter((line) => line.includes(" "))
    .map((line) => ({
      panePid: Number(line.slice(0, line.indexOf(" "))),
      session: line.slice(line.indexOf(" ") + 1),
    }));

/** @throws BureauError when the server still does not answer after `timeoutMs` */
async function retryStart(start: () => Promise<Ran>, timeoutMs: number, clock: Clock): Promise<void> {
  const deadline = clock.monotonic() + timeoutMs;
  let outcome = await start();
  while (outcome.code !== 0 && clock.monotonic() < deadline) {
    await clock.sleep(START_POLL_MS);
    outcome = await start();
  }
  if (outcome.code !== 0) throw tmuxError("start the tmux server", outcome);
}

/** The environment of a client. The server inherits it from the client that starts it. */
const clientEnvironment = (): Record<string, string> => ({
  PATH: process.env["PATH"] ?? "/usr/local/bin:/usr/bin:/bin",
  LANG: "C.UTF-8",
  SHELL: "/bin/sh",
});

/** @throws BureauError `unsupported` without tmux, `timeout`, `too-large` */
async function runClient(argv: string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
  try {
    return await runToEnd(argv, {
      what: `"${argv.join(" ")}"`,
      timeoutMs: CLIENT_MS_MAX,
      stdoutBytesMax: SCREEN_BYTES_MAX,
      env: { ...clientEnvironment(), ...env },
    });
  } catch (error) {
    if (!isBureauError(error) || error.code !== "unsupported") throw error;
    throw new BureauError("unsupported", "Cannot run tmux", { hint: "install tmux", cause: error });
  }
}

const tmuxError = (act: string, outcome: Ran): BureauError =>
  new BureauError(
    "failed",
    `Cannot ${act}: tmux exited with ${outcome.code}: ${outcome.stderr.trim() || "no output"}`,
  );

/** The last `lines` lines of a captured pane, without trailing blanks and tmux's own note that the pane is dead. */
export function lastLines(screen: string, lines: number): string {
  const kept = screen.replace(/\s+$/, "").split("\n");
  if (/^Pane is dead\b/.test(kept.at(-1) ?? "")) kept.pop();
  while (kept.length > 0 && kept.at(-1)?.trim() === "") kept.pop();
  return kept.slice(-lines).join("\n");
}
