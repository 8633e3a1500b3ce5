/** The folders of a system installation. */
import { systemHost, systemLayout } from "@bureau/os/layout";

/** A folder of the installation: the specification's table "Directory Ownership". */
export type HostFolder = {
  readonly path: string;
  readonly owner: string;
  readonly group: string;
  readonly mode: number;
};

const { user, operatorsGroup } = systemHost;

/** Every folder with its owner, group and mode; those above come first. */
export const hostFolders: readonly HostFolder[] = [
  { path: systemHost.configDir, owner: "root", group: "root", mode: 0o755 },
  { path: systemLayout.runDir, owner: user, group: operatorsGroup, mode: 0o750 },
  { path: systemLayout.stateDir, owner: user, group: user, mode: 0o700 },
  { path: systemHost.dataDir, owner: "root", group: "root", mode: 0o755 },
  { path: systemLayout.workspaceRoot, owner: user, group: user, mode: 0o755 },
  { path: systemLayout.cacheRoot, owner: user, group: user, mode: 0o755 },
  { path: systemHost.buildsDir, owner: "root", group: "root", mode: 0o755 },
  { path: systemHost.buildDir, owner: user, group: user, mode: 0o755 },
  { path: systemHost.binDir, owner: "root", group: "root", mode: 0o755 },
];

/** Folders with people's files. */
export const dataFolders: readonly string[] = [systemLayout.workspaceRoot, systemLayout.cacheRoot];

/** Folders with nothing but Bureau's files. */
export const ownFolders: readonly string[] = [
  systemLayout.runDir,
  systemLayout.stateDir,
  systemHost.buildsDir,
  systemHost.buildDir,
  systemHost.backupsDir,
];
