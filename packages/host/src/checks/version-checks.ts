/** Running programs are of the build that the boot link names. */
import { readlinkSync } from "node:fs";
import { errnoOf } from "@bureau/kit/errors";
import { argumentsOf } from "@bureau/os/process-table";
import { programIn } from "@bureau/os/runtime-command";
import { daemonUnit, launcherUnit } from "@bureau/os/unit-names";
import type { Action } from "../resources/registry.ts";
import { buildAt, buildOfProcessPath } from "../system/installed-build.ts";
import { byFix, type Check, type Finding, fail, hidden, pass, skip, systemOnly } from "./check.ts";
import type { HostView } from "./host-view.ts";
import { currentBuild } from "./program-checks.ts";

const units = { launcher: launcherUnit, daemon: daemonUnit };

export const versionChecks: readonly Check[] = Object.entries(units).map(
  ([name, unit]): Check => ({
    id: `running-${name}`,
    group: "versions",
    title: `Running ${name}`,
    expected: "of the build that units run",
    repair: byFix("restarts it"),
    scope: systemOnly("a rootless instance runs the programs it was started with"),
    run: (host) => runningBuild(host, unit),
  }),
);

async function runningBuild(host: HostView, unit: string): Promise<Finding> {
  const state = (await host.units()).get(unit);
  if (state?.pid === undefined) return skip("not running");
  const expected = currentBuild();
  if (expected === undefined) return skip("no whole build to compare with");
  const running = buildOf(state.pid);
  const restart: { actions: readonly Action[] } = { actions: [{ kind: "restart", unit }] };
  switch (running.kind) {
    case "unknown":
      return hidden("only root may see which build it runs");
    case "deleted":
      return fail("a build that was removed", restart);
    case "build":
      try {
        const { id } = buildAt(running.path);
        return id === expected.id ? pass(`build ${id}`) : fail(`build ${id}, not ${expected.id}`, restart);
      } catch {
        return fail(`"${running.path}", which is no longer a build`, restart);
      }
  }
}

type RunningBuild =
  | { readonly kind: "build"; readonly path: string }
  /** Its executable was removed since it started. */
  | { readonly kind: "deleted" }
  | { readonly kind: "unknown" };

/** What the kernel adds to the path of a removed executable (proc_pid_exe(5)). */
const DELETED = " (deleted)";

/**
 * From its executable, which only root may read, and from its command line, where that names a build itself. Where both do,
 * the command line is right: in the Nix store the runtime has a path of its own, which many builds share.
 */
function buildOf(pid: number): RunningBuild {
  const named = namedBuildOf(pid);
  try {
    const path = readlinkSync(`/proc/${pid}/exe`, { encoding: "utf8" });
    if (path.endsWith(DELETED)) return { kind: "deleted" };
    const build = named ?? buildOfProcessPath(path);
    return build === undefined ? { kind: "unknown" } : { kind: "build", path: build };
  } catch (error) {
    if (errnoOf(error) !== "EACCES" && errnoOf(error) !== "ENOENT") throw error;
  }
  return named === undefined ? { kind: "unknown" } : { kind: "build", path: named };
}

function namedBuildOf(pid: number): string | undefined {
  const bundle = programIn(argumentsOf(pid));
  const build = bundle === undefined ? undefined : buildOfProcessPath(bundle);
  // Through the boot link it does not tell which build that was at the start.
  return build === undefined || build.includes("/current") ? undefined : build.replace(/\/bin\/\.\.$/, "");
}
