/** Running programs are of the build that the boot link names. */
import { readlinkSync } from "node:fs";
import { errnoOf } from "@bureau/kit/errors";
import { argumentsOf } from "@bureau/os/process-table";
import { programIn } from "@bureau/os/runtime-command";
import { buildAt, buildOfProcessPath } from "../system/installed-build.ts";
import { type Check, type Finding, fail, hidden, pass, skip } from "./check.ts";
import type { HostView } from "./host-view.ts";
import { currentBuild } from "./program-checks.ts";

export const versionChecks: readonly Check[] = ["launcher", "daemon"].map((name): Check => {
  const unit = `bureau-${name}.service`;
  return {
    id: `running-${name}`,
    group: "versions",
    title: `Running ${name}`,
    expected: "of the build that units run",
    repair: "restarted",
    systemOnly: "a rootless instance runs the programs it was started with",
    probe: (host) => runningBuild(host, unit),
  };
});

async function runningBuild(host: HostView, unit: string): Promise<Finding> {
  const state = (await host.units()).get(unit);
  if (state?.pid === undefined) return skip("it does not run");
  const expected = currentBuild();
  if (expected === undefined) return skip("there is no whole build to compare with");
  const running = buildOf(state.pid);
  if (running === undefined) return hidden("only root may see which build it runs");
  const restart: Finding["actions"] = [{ kind: "restart", unit }];
  if (running.endsWith(" (deleted)")) return fail("a build that is gone", { actions: restart });
  try {
    const build = buildAt(running);
    return build.id === expected.id
      ? pass(`build ${build.id}`)
      : fail(`build ${build.id}, not ${expected.id}`, { actions: restart });
  } catch {
    return fail(`"${running}", which is no build any more`, { actions: restart });
  }
}

/**
 * By its executable, which root may read, and by its command line, where that names a build itself. Where both do, the
 * command line is right: in the Nix store the runtime is a path of its own, shared by many builds.
 */
function buildOf(pid: number): string | undefined {
  try {
    const path = readlinkSync(`/proc/${pid}/exe`, { encoding: "utf8" });
    const gone = path.endsWith(" (deleted)");
    const build = buildOfProcessPath(path.replace(/ \(deleted\)$/, ""));
    return gone ? `${build ?? path} (deleted)` : (namedBuildOf(pid) ?? build);
  } catch (error) {
    if (errnoOf(error) !== "EACCES" && errnoOf(error) !== "ENOENT") throw error;
  }
  return namedBuildOf(pid);
}

function namedBuildOf(pid: number): string | undefined {
  const bundle = programIn(argumentsOf(pid));
  const build = bundle === undefined ? undefined : buildOfProcessPath(bundle);
  // Through the boot link it says nothing about when it was started.
  return build === undefined || build.includes("/current") ? undefined : build.replace(/\/bin\/\.\.$/, "");
}
