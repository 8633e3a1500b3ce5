/**
 * What machines are told to run: a host environment, as far as the operator knows it. It is looked into here, so that
 * what is no host environment is refused before any machine hears of it. One that only lies on the machine cannot be
 * looked into; the machine's own check is then the only one.
 */
import { existsSync, realpathSync } from "node:fs";
import { isAbsolute, join, resolve } from "node:path";
import { BureauError, isBureauError } from "@bureau/kit/errors";
import { isStorePath } from "@bureau/kit/nix-store-path";
import { digestOf } from "@bureau/os/digest";
import { type HostEnvironment, readHostEnvironment } from "@bureau/os/host-environment";
import type { MachineVersion } from "@bureau/schema/events";
import { InputError } from "@bureau/schema/parse";

/** Those a machine cannot be without. */
const coreProgramNames = ["bureau-daemon", "bureau-launcher", "bureau-proxy"] as const;
const LOG_RELAY = "bureau-log-relay";

export type UpgradeTarget = {
  /** Absolute, without links: what is asked for does not change when a link does. */
  readonly path: string;
  /** Absent when it could not be looked into from here. */
  readonly version?: string;
  /** Program → SHA-256, likewise. */
  readonly programs?: Readonly<Record<string, string>>;
  readonly files: {
    readonly daemon_store_path: string;
    readonly launcher_store_path: string;
    readonly proxy_store_path: string;
    readonly log_relay_store_path?: string;
  };
};

/** Reads one that lies here. @throws BureauError `not-found`, or `invalid-input` with what is missing in it */
export function readTarget(typed: string): UpgradeTarget {
  const wanted = resolve(typed);
  if (!existsSync(wanted))
    throw new BureauError("not-found", `There is no host environment "${wanted}" on this host`, {
      hint: "build one, or say --on-machine when it lies on the machine only, or in the fleet's Nix cache",
    });
  const path = realpathSync(wanted);
  const { version, programs } = readOrRefuse(path);
  for (const name of coreProgramNames)
    if (programs[name] === undefined || !existsSync(join(path, "bin", name)))
      throw notOne(path, `it has no bin/${name}`);
  const file = (name: string): string => realpathSync(join(path, "bin", name));
  const hasRelay = existsSync(join(path, "bin", LOG_RELAY));
  return {
    ...{ path, version, programs },
    files: { ...coreFiles(file), ...(hasRelay ? { log_relay_store_path: file(LOG_RELAY) } : {}) },
  };
}

/** One that lies on the machine, taken at its word. @throws BureauError `invalid-input` unless absolute */
export function assumeTarget(path: string): UpgradeTarget {
  if (!isAbsolute(path))
    throw new BureauError("invalid-input", `"${path}" is not an absolute path, as it must be on a machine`);
  return { path, files: coreFiles((name) => join(path, "bin", name)) };
}

/**
 * A store path means the same everywhere, once it is there; any other belongs to one host.
 * @throws BureauError `invalid-input` when the folder is of this host and the machine is another
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

/**
 * What runs there is what is asked for, as far as that is known here. A machine says nothing of its runtime, nor does a
 * rollout of every program, so the same path is needed as well: a machine that has the same content at another path
 * answers at once that there is nothing to do.
 */
export function runsAlready(
  target: Pick<UpgradeTarget, "path" | "programs">,
  running: Pick<MachineVersion, "programs" | "host_environment_path">,
): boolean {
  const { path, programs } = target;
  if (running.host_environment_path !== path) return false;
  return (
    programs === undefined || coreProgramNames.every((name) => programs[name] === running.programs[name])
  );
}

const ID_CHARS = 8;

/**
 * What people tell versions apart by: `0.1.0+9a631f7d`. Builds between two releases have the same number, so what the
 * programs are made of comes after it; the same wherever it lies.
 */
export function versionName(version: string, programs: Readonly<Record<string, string>>): string {
  const core = coreProgramNames.map((name) => programs[name] ?? "");
  return `${version}+${digestOf(core).slice(0, ID_CHARS)}`;
}

/** The same of what was asked for; its path where nobody could look into it. */
export const nameOf = ({ version, programs, path }: UpgradeTarget): string =>
  version === undefined || programs === undefined ? path : versionName(version, programs);

const coreFiles = (file: (name: string) => string): UpgradeTarget["files"] => ({
  daemon_store_path: file("bureau-daemon"),
  launcher_store_path: file("bureau-launcher"),
  proxy_store_path: file("bureau-proxy"),
});

function readOrRefuse(path: string): HostEnvironment {
  try {
    return readHostEnvironment(path);
  } catch (error) {
    if (error instanceof InputError) throw notOne(path, error.message);
    if (isBureauError(error)) throw notOne(path, "it has no build.json");
    throw error;
  }
}

const notOne = (path: string, why: string): BureauError =>
  new BureauError("invalid-input", `"${path}" is not a host environment: ${why}`, {
    hint: "npm run -s build:host-env -- --print makes one and prints its path",
  });
