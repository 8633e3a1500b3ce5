/**
 * Runs the doctor again as root through sudo, with the same flags and the same terminal. Root runs the resolved program,
 * never one that the system user or the operators could have changed, and never in the caller's working directory, which
 * another user may control.
 */
import { closeSync, constants, lstatSync, openSync, readdirSync, realpathSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { shellLine } from "@bureau/kit/shell-words";
import { systemHost } from "@bureau/os/layout";
import { readAccounts } from "./accounts.ts";

/** What the doctor under sudo adds to its exit code, so that sudo's own failures can be told from it. */
export const ELEVATED_EXIT_BASE = 40;
/** Also added when the machine has joined in the meantime: the bootstrap file is used up. */
export const ELEVATED_JOINED = 5;

/** @throws BureauError `forbidden` when somebody who is not to be root may change what root would run */
export function requireTrustworthy(build: string): void {
  const accounts = readAccounts();
  const uid = accounts.user(systemHost.user)?.uid;
  const gids = [systemHost.user, systemHost.operatorsGroup].flatMap(
    (name) => accounts.group(name)?.gid ?? [],
  );
  const bundle = readdirSync(join(build, "lib", "bureau")).map((name) => `lib/bureau/${name}`);
  const inBuild = ["", "bin", "bin/bureau", "lib", "lib/bureau", ...bundle, "runtime", "runtime/bun"];
  const paths = inBuild.map((below) => join(build, below));
  // A host environment in the Nix store consists of links: what they lead to counts, and every folder on the way.
  const real = paths.map((path) => realpathSync(path));
  for (const path of new Set([...paths, ...real, ...real.flatMap(foldersAbove)])) {
    // A link's own mode says nothing: whoever may write its folder changes where it leads, and so may its owner.
    const stat = statSync(path);
    const isSticky = (stat.mode & 0o1000) !== 0;
    const byGroup = (stat.mode & 0o020) !== 0 && gids.includes(stat.gid);
    const byAll = (stat.mode & 0o002) !== 0 && !isSticky;
    if (stat.uid === uid || lstatSync(path).uid === uid || byGroup || byAll)
      throw new BureauError(
        "forbidden",
        `Root must not run "${build}": "${path}" can be changed without root`,
        {
          hint: `run a bureau that only you or root can change, such as ${systemHost.binDir}/bureau`,
        },
      );
  }
}

function foldersAbove(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [] : [parent, ...foldersAbove(parent)];
}

/**
 * Runs `bureau ARGS --elevated` as root and returns its exit code, which may be {@link ELEVATED_JOINED} more. `typed` is how a
 * person would give the same command.
 * @throws BureauError `forbidden` when there is no sudo, or it refuses
 */
export async function runElevated(
  build: string,
  args: readonly string[],
  stdin: string | undefined,
  typed: readonly string[] = args,
): Promise<number> {
  requireTrustworthy(build);
  const sudo = Bun.which("sudo");
  const program = join(build, "bin", "bureau");
  const byHand = `as root: ${shellLine([program, ...typed])}`;
  if (sudo === null)
    throw new BureauError("forbidden", "This needs root, and there is no sudo here", { hint: byHand });
  // Without a terminal nobody can type a password: sudo is not to wait for one.
  const quiet = hasTerminal() ? [] : ["-n"];
  const child = Bun.spawn([sudo, ...quiet, "--", program, ...args, "--elevated"], {
    cwd: "/",
    stdin: stdin === undefined ? "inherit" : Buffer.from(stdin),
    stdout: "inherit",
    stderr: "inherit",
  });
  // Ctrl-C reaches the child too, and it says how far it came.
  const ignore = (): void => {};
  process.on("SIGINT", ignore);
  const code = await child.exited;
  process.off("SIGINT", ignore);
  if (code >= ELEVATED_EXIT_BASE && code < ELEVATED_EXIT_BASE + 10) return code - ELEVATED_EXIT_BASE;
  throw new BureauError("forbidden", `This needs root, and sudo ended with ${code}`, { hint: byHand });
}

/** Whether sudo could ask somebody: it does so on the controlling terminal, whatever standard input is. */
export function hasTerminal(): boolean {
  try {
    closeSync(openSync("/dev/tty", constants.O_RDWR | constants.O_NOCTTY));
    return true;
  } catch {
    return false;
  }
}
