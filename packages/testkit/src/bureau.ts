/**
 * A whole Bureau in a folder of its own, run through the command line as a person would: the fixture of every journey,
 * and what the benchmarks measure. It runs the newest build, the same that ships.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MatrixSession } from "@bureau/matrix/session";
import { egressFetch } from "@bureau/os/egress";
import { type InstanceLayout, instanceLayout } from "@bureau/os/layout";
import { findByArguments, type ProcessId } from "@bureau/os/process-table";
import { readOperatorSession } from "@bureau/os/session-file";

export type CommandResult = { readonly code: number; readonly stdout: string; readonly stderr: string };

export type TestBureau = AsyncDisposable & {
  readonly home: string;
  readonly layout: InstanceLayout;
  /** Runs `bureau ARGS…` against this instance. */
  run(...args: string[]): Promise<CommandResult>;
  /** Runs it, expects exit 0, and parses what it printed. */
  json<T = unknown>(...args: string[]): Promise<T>;
  /** The operator's session. */
  session(): MatrixSession;
  /** Processes that belong to this instance, by their arguments. */
  processes(): ProcessId[];
  /** The last lines of each program's log, for a failure's message. */
  logs(lines: number): string;
};

/** The `bureau` of the checkout's newest build. */
export const bureauCommand = join(import.meta.dir, "../../../dist/current/bin/bureau");

/** Makes the folder; nothing runs until `run("up")`. Disposing stops everything and removes the folder. */
export function createBureau(
  options: { readonly env?: Readonly<Record<string, string>>; readonly home?: string } = {},
): TestBureau {
  const home = options.home ?? mkdtempSync(join(tmpdir(), "bt-"));
  const env = { ...cleanEnvironment(), BUREAU_HOME: home, ...options.env };
  const layout = instanceLayout(home, env);
  const run = async (...args: string[]): Promise<CommandResult> => {
    const child = Bun.spawn([bureauCommand, ...args], {
      env,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    return { code, stdout, stderr };
  };
  return {
    home,
    layout,
    run,
    async json<T>(...args: string[]) {
      const { code, stdout, stderr } = await run(...args, "--json");
      if (code !== 0)
        throw new Error(
          `bureau ${args.join(" ")} exited with ${code}:\n${stdout}${stderr}${logsOf(layout, 8)}`,
        );
      return JSON.parse(stdout) as T;
    },
    session: () => new MatrixSession({ ...readOperatorSession(layout.sessionFile), fetch: egressFetch }),
    processes: () => processesOf(layout),
    logs: (lines) => logsOf(layout, lines),
    async [Symbol.asyncDispose]() {
      await run("down");
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** Every process whose command line names the instance's folders. */
export function processesOf(layout: InstanceLayout): ProcessId[] {
  const found = [
    ...findByArguments("--run-dir", layout.runDir),
    ...findByArguments("--home", layout.home),
    ...findByArguments("--data-dir", layout.homeserverDir),
    ...findByArguments("-S", join(layout.runDir, "tmux.sock")),
  ];
  return [...new Map(found.map((process) => [process.pid, process])).values()];
}

/** What a person's shell has, without what would lead an instance elsewhere. */
function cleanEnvironment(): Record<string, string> {
  const kept = ["PATH", "HOME", "USER", "LANG", "TERM"];
  return Object.fromEntries(
    kept.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
  );
}

function logsOf(layout: InstanceLayout, count: number): string {
  return ["homeserver", "launcher", "daemon", "supervisor"]
    .map((name) => {
      try {
        const lines = readFileSync(join(layout.logDir, `${name}.log`), "utf8")
          .trimEnd()
          .split("\n");
        return `\n--- ${name}.log\n${lines.slice(-count).join("\n")}`;
      } catch {
        return "";
      }
    })
    .join("");
}
