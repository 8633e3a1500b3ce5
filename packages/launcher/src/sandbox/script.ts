/**
 * The shell script of a pane. It passes bubblewrap's arguments through a descriptor, so that no argv contains a secret; the
 * launcher removes the file after bubblewrap has read it. The script writes the exit code to a file, also when no launcher
 * runs. The terminal is the program's: the script prints nothing before the program, and only an invisible mark after it.
 * Before the program it runs only bubblewrap: each further command would delay the sandbox by a millisecond. bubblewrap gets
 * an empty environment, because the program can read it (/proc/1/environ).
 *
 * The shell is in the program's process group, which gets the terminal's signals (Ctrl-C) and signals to the whole group
 * (kill 0). It ignores those that end a program, to write the exit code afterwards.
 */
import { join } from "node:path";
import type { SandboxPaths } from "@bureau/os/layout";
import { endOfOutput } from "../terminal/tmux.ts";

/**
 * A named pipe: bubblewrap makes all mounts and reads from the pipe before it runs the program. Meanwhile the launcher checks
 * the mounts and the proxy starts.
 */
export const startGate = (paths: SandboxPaths): string => join(paths.dir, "start");

/**
 * The shell outlives the program by this time. tmux considers a pane dead when its shell has exited and no output is
 * readable at that moment; output still in the kernel's terminal buffer would be lost (seen with tmux 3.3 on a busy host: most
 * of 3,000 lines, twice in a hundred runs with 0.05 s). A launcher does not wait for it: it takes the screen at the mark.
 */
const LINGER_SECONDS = "0.5";

/** Absolute paths of what the script runs. */
export type SandboxPrograms = {
  readonly bwrap: string;
  /** Gives a sandbox a session keyring of its own (keyrings(7)); absent where there is none. */
  readonly keyctl: string | undefined;
};

/**
 * Pure. Other processes of the host's user can read `command`, so it must not contain a secret. `group`: the folder of the
 * sandbox's control group. bubblewrap and its descendants run in that group, or do not start; the shell stays outside.
 */
export function sandboxScript(
  paths: SandboxPaths,
  { bwrap, keyctl }: SandboxPrograms,
  command: readonly string[],
  group: string | undefined,
): string {
  const file = (path: string): string => quote(path);
  const takeTerminal = "exec 2>&9 9>&-";
  const start = `env -i ${quote(bwrap)} --args 3 --json-status-fd 4 --block-fd 5 --add-seccomp-fd 6 -- ${command.map(quote).join(" ")}`;
  // keyctl prints the new keyring on its standard error, so that becomes the terminal only afterwards.
  const lines = [
    ...(group === undefined ? [] : [enterGroup(group)]),
    ...(keyctl === undefined
      ? [takeTerminal, `exec ${start}`]
      : [`exec ${quote(keyctl)} session - /bin/sh -c ${quote(`${takeTerminal}; exec "$@"`)} sh ${start}`]),
  ].join("\n  ");
  return `# Runs one sandbox; written by bureau-launcher, started by its tmux.
exec 9>&2 2>/dev/null
trap : INT QUIT TERM
( exec 3<${file(paths.bwrapArguments)} 4>${file(paths.bwrapStatus)} 5<>${file(startGate(paths))} 6<${file(paths.seccompFilter)}
  ${lines}
)
code=$?
echo "$code" >${file(paths.exitCode)}
printf '${endOfOutput}'
sleep ${LINGER_SECONDS}
`;
}

/** 0 stands for the writing process: the subshell. */
const enterGroup = (group: string): string =>
  `echo 0 >${quote(join(group, "cgroup.procs"))} || { echo ${quote(`cannot enter the control group ${group}`)} >&9; exit 1; }`;

/** One word for sh, with any content. */
export const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;
