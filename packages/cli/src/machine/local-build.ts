/** A build on this host that machines are to run. It is read and checked here, before any machine is asked. */
import { existsSync, realpathSync } from "node:fs";
import { join, resolve } from "node:path";
import { coreFiles, coreProgramNames, type UpgradeTarget } from "@bureau/control/rollouts/upgrade-target";
import { BureauError, isBureauError } from "@bureau/kit/errors";
import { isStorePath } from "@bureau/kit/nix-store-path";
import { type Build, readBuild } from "@bureau/os/build";
import { InputError } from "@bureau/schema/parse";

const LOG_RELAY = "bureau-log-relay";

/** Reads the build at a path as typed. @throws BureauError `not-found`, or `invalid-input` that names what it lacks */
export function readTarget(typed: string): UpgradeTarget {
  const wanted = resolve(typed);
  if (!existsSync(wanted))
    throw new BureauError("not-found", `There is no build "${wanted}" on this host`, {
      hint: "make one, or use --on-machine when it is on the machine only, or in the fleet's Nix cache",
    });
  const path = realpathSync(wanted);
  const { version, programs } = readOrRefuse(path);
  for (const name of coreProgramNames)
    if (programs[name] === undefined || !existsSync(join(path, "bin", name)))
      throw notOne(path, `it has no bin/${name}`);
  const file = (name: string): string => realpathSync(join(path, "bin", name));
  const hasRelay = existsSync(join(path, "bin", LOG_RELAY));
  return {
    path,
    version,
    programs,
    files: { ...coreFiles(file), ...(hasRelay ? { log_relay_store_path: file(LOG_RELAY) } : {}) },
  };
}

/**
 * A store path means the same on every host that has it; any other path belongs to one host. `elsewhere`: the machines
 * meant that are not this host.
 * @throws BureauError `invalid-input` when the folder is of this host and a machine is another one
 */
export function requireReachable(target: UpgradeTarget, elsewhere: readonly string[]): void {
  const [first] = elsewhere;
  if (first === undefined || isStorePath(target.path)) return;
  throw new BureauError(
    "invalid-input",
    `"${target.path}" is a folder of this host, and ${first} is another one`,
    {
      hint: "build it with Nix and nix copy --to ssh://HOST PATH, bring it with bureau machine deploy ssh://HOST, or say --on-machine when the folder is there too",
    },
  );
}

function readOrRefuse(path: string): Build {
  try {
    return readBuild(path);
  } catch (error) {
    if (error instanceof InputError) throw notOne(path, error.message);
    if (isBureauError(error)) throw notOne(path, "it has no build.json");
    throw error;
  }
}

const notOne = (path: string, why: string): BureauError =>
  new BureauError("invalid-input", `"${path}" is not a build of Bureau: ${why}`, {
    hint: "npm run -s build:host-env -- --print makes one and prints its path",
  });
