/** Every file in the state folder whose shape is the daemon's own, brought to the format this build writes. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { daemonStateFile, type Layout, specHistoryDir, upgradeStateFile } from "@bureau/os/layout";
import { migrateStateFormat, type StateFile } from "@bureau/os/state-format";

/** @throws BureauError when one is of a format that this build does not know; then nothing was touched */
export function migrateDaemonFiles(layout: Layout): void {
  const folder = specHistoryDir(layout);
  const histories = (existsSync(folder) ? readdirSync(folder) : []).filter((name) => name.endsWith(".json"));
  const files: StateFile[] = [
    { kind: "completions", path: daemonStateFile(layout) },
    { kind: "upgrade-state", path: upgradeStateFile(layout) },
    ...histories.map((name): StateFile => ({ kind: "spec-history", path: join(folder, name) })),
  ];
  migrateStateFormat(layout.stateDir, files);
}
