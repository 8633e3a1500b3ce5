/**
 * The shell script a pane runs. It hands bubblewrap its arguments through a descriptor, so that no secret stands in an
 * argv; the launcher removes the file once they are read. It leaves the exit code in a file even when no launcher runs,
 * and says nothing on the terminal itself, which is the program's. Before the program it runs nothing but bubblewrap: each
 * command would cost a sandbox a millisecond. bubblewrap gets an empty environment, because the program can read it
 * (/proc/1/environ).
 *
 * The shell shares its process group with the program, which may have the terminal's signals (Ctrl-C) or send one to the
 * whole group (kill 0). It outlives those that end a program, to write down how the program ended.
 */
import { join } from "node:path";
import type { SandboxPaths } from "@bureau/os/layout";

/**
 * A named pipe: bubblewrap, with all mounts made, reads from it before it runs the program. The launcher looks at the
 * mounts meanwhile, and the proxy starts.
 */
export const startGate = (paths: SandboxPaths): string => join(paths.dir, "start");

/**
 * The pane outlives the program by this. tmux takes a pane for dead when its shell has exited and nothing can be read
 * just then; what the kernel still carries from one end of the terminal to the other would be lost (seen with tmux
 * 3.3: the last tenth of 3,000 lines, once in some hundred runs).
 */
const LINGER_SECONDS = "0.05";

/** Absolute paths of what the script runs. */
export type SandboxPrograms = {
  readonly bwrap: string;
  /** Gives a sandbox a session keyring of its own (keyrings(7)); absent where there is none. */
  readonly keyctl: string | undefined;
};

/**
 * Pure. `command` is visible to other processes of the host's user, so it holds no secret. `group` is the folder of the
 * sandbox's control group: bubblewrap and all below it are in it, the shell is not, and without being in it bubblewrap
 * does not run.
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
  // keyctl names the new keyring on its standard error, which is the terminal only after it.
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
echo "$code" >${file(`${paths.exitCode}.tmp`)} && mv -f ${file(`${paths.exitCode}.tmp`)} ${file(paths.exitCode)}
sleep ${LINGER_SECONDS}
`;
}

/** 0 means the writing process, which is the subshell. */
const enterGroup = (group: string): string =>
  `echo 0 >${quote(join(group, "cgroup.procs"))} || { echo ${quote(`cannot enter the control group ${group}`)} >&9; exit 1; }`;

/** One word for sh, with any content. */
export const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;
