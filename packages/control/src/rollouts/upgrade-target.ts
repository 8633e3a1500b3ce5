/** What machines are told to run: a build, as far as the operator knows it. */
import { BureauError } from "@bureau/kit/errors";
import type { MachineVersion } from "@bureau/schema/events";
import { digestOf } from "../digest.ts";

/** Programs that every build has. */
export const coreProgramNames = ["bureau-daemon", "bureau-launcher", "bureau-proxy"] as const;

export type UpgradeTarget = {
  /** Absolute, without links: what is asked for does not change when a link does. */
  readonly path: string;
  /** Absent when the build was not read here. */
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

/**
 * A build that lies on the machine only; nothing of it is checked here, the machine checks it before it starts it.
 * @throws BureauError `invalid-input` unless absolute
 */
export function assumeTarget(path: string): UpgradeTarget {
  if (!path.startsWith("/"))
    throw new BureauError("invalid-input", `"${path}" is not an absolute path, as it must be on a machine`);
  return { path, files: coreFiles((name) => `${path.replace(/\/+$/u, "")}/bin/${name}`) };
}

/** The wire's fields for the core programs; `file` gives the path of each. */
export const coreFiles = (file: (program: string) => string): UpgradeTarget["files"] => ({
  daemon_store_path: file("bureau-daemon"),
  launcher_store_path: file("bureau-launcher"),
  proxy_store_path: file("bureau-proxy"),
});

/**
 * Whether the machine runs the target, as far as that is known here. A machine does not report its runtime, and a rollout
 * does not name every program, so the path must be the same too. A machine with the same content at another path answers
 * at once that there is nothing to do.
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
 * The name that people tell builds apart by: `0.1.0+9a631f7d`. Builds between two releases have the same version, so a
 * digest of the core programs follows it; it is the same wherever the build lies.
 */
export function versionName(version: string, programs: Readonly<Record<string, string>>): string {
  const core = coreProgramNames.map((name) => programs[name] ?? "");
  return `${version}+${digestOf(core).slice(0, ID_CHARS)}`;
}

/** {@link versionName} of a target; its path when the build was not read here. */
export const nameOf = ({ version, programs, path }: UpgradeTarget): string =>
  version === undefined || programs === undefined ? path : versionName(version, programs);
