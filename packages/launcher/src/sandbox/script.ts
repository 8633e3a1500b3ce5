/**
 * The shell script a pane runs. It hands bubblewrap its arguments through a descriptor, so that no secret stands in an
 * argv; the launcher removes the file once they are read. It leaves the exit code in a file even when nobody watches,
 * and says nothing on the terminal itself, which is the program's. Before the program it runs nothing but bubblewrap: each
 * command would cost a sandbox a millisecond.
 */
import { join } from "node:path";
import type { SandboxPaths } from "@bureau/kit/layout";

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

/** Pure. `bwrap` is an absolute path; `command` is visible to other processes of the host's user, so it holds no secret. */
export function sandboxScript(paths: SandboxPaths, bwrap: string, command: readonly string[]): string {
  const file = (path: string): string => quote(path);
  return `# Runs one sandbox; written by bureau-launcher, started by its tmux.
exec 9>&2 2>/dev/null
( exec 2>&9 9>&- 3<${file(paths.bwrapArguments)} 4>${file(paths.bwrapStatus)} 5<>${file(startGate(paths))}
  exec ${quote(bwrap)} --args 3 --json-status-fd 4 --block-fd 5 -- ${command.map(quote).join(" ")}
)
code=$?
echo "$code" >${file(`${paths.exitCode}.tmp`)} && mv -f ${file(`${paths.exitCode}.tmp`)} ${file(paths.exitCode)}
sleep ${LINGER_SECONDS}
`;
}

/** One word for sh, whatever it holds. */
export const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;
