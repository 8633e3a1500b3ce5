/** `m.bureau.machine_version`, from the stored state and the running builds. Pure. */
import type { Build } from "@bureau/os/build";
import { CONFIG_PAGES_MAX } from "@bureau/schema/config-pages";
import type { MachineVersion } from "@bureau/schema/events";
import type { LauncherStatus } from "./launcher-upgrade.ts";
import type { UpgradeState } from "./upgrade-state.ts";

export function machineBuild(
  state: UpgradeState,
  own: Build,
  launcher: Pick<LauncherStatus, "sha256"> | undefined,
): MachineVersion {
  const { current, confirmed, previous, history } = state;
  const [last] = history;
  const running = { ...own.programs };
  if (launcher?.sha256 !== undefined) running["bureau-launcher"] = launcher.sha256;
  const failed = last !== undefined && last.outcome !== "succeeded";
  return {
    host_environment_path: confirmed?.path ?? own.path,
    version: own.version,
    programs: running,
    config_pages: CONFIG_PAGES_MAX,
    ...(previous === undefined ? {} : { previous_host_environment_path: previous }),
    state: current !== undefined ? "upgrading" : failed ? "failed" : "running",
    ...(current !== undefined
      ? { request_id: current.request.request_id, step: current.step }
      : last === undefined
        ? {}
        : { request_id: last.request_id, ...(last.reason === undefined ? {} : { reason: last.reason }) }),
    history,
  };
}
