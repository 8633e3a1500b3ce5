/** Every folder of the installation exists, with its owner, group and mode (specification, "Directory Ownership"). */
import { systemHost, systemLayout } from "@bureau/os/layout";
import { look, octal, type Seen } from "../system/look.ts";
import { type HostFolder, hostFolders } from "../units/host-folders.ts";
import {
  byFix,
  type Check,
  everyInstallation,
  type Finding,
  fail,
  hidden,
  pass,
  systemOnly,
} from "./check.ts";
import type { HostView } from "./host-view.ts";

/** Check ids do not depend on where a folder is. */
const names: Readonly<Record<string, string>> = {
  [systemHost.configDir]: "config",
  [systemLayout.runDir]: "run",
  [systemLayout.stateDir]: "state",
  [systemHost.dataDir]: "data",
  [systemLayout.workspaceRoot]: "workspace",
  [systemLayout.cacheRoot]: "cache",
  [systemHost.buildsDir]: "builds",
  [systemHost.buildDir]: "programs",
  [systemHost.binDir]: "bin",
};

const nameOf = (path: string): string => names[path] ?? path.slice(1).replaceAll("/", "-");

/** The same folder of a rootless instance. */
const inInstance: Readonly<Record<string, (host: HostView) => string>> = {
  run: ({ layout }) => layout.runDir,
  state: ({ layout }) => layout.stateDir,
  workspace: ({ layout }) => layout.workspaceRoot,
  cache: ({ layout }) => layout.cacheRoot,
};

export const directoryChecks: readonly Check[] = hostFolders.map((folder): Check => {
  const name = nameOf(folder.path);
  const inside = inInstance[name];
  return {
    id: `directory-${name}`,
    group: "directories",
    title: folder.path,
    expected: `${folder.owner}:${folder.group} ${octal(folder.mode)}`,
    repair: byFix("makes it, or sets owner and mode"),
    scope: inside === undefined ? systemOnly("a rootless instance has no such folder") : everyInstallation,
    run: (host) =>
      host.kind === "rootless" && inside !== undefined ? ownFolder(inside(host)) : systemFolder(host, folder),
  };
});

const CLOSED = "you may not look: a folder above is closed to you";

function systemFolder(host: HostView, folder: HostFolder): Finding {
  const { path, owner, group, mode } = folder;
  const seen = look(path);
  if (seen.kind === "hidden") return hidden(CLOSED);
  const make = { actions: [{ kind: "folder", path, owner, group, mode } as const] };
  if (seen.kind === "absent") return fail("missing", make);
  if (seen.kind !== "folder") return notAFolder(path, seen);
  const accounts = host.accounts();
  const found = `${accounts.userName(seen.uid)}:${accounts.groupName(seen.gid)} ${octal(seen.mode)}`;
  return found === `${owner}:${group} ${octal(mode)}` ? pass(found) : fail(found, make);
}

function ownFolder(path: string): Finding {
  const expected = `${path}, which only you may write`;
  const seen = look(path);
  if (seen.kind === "hidden") return hidden(CLOSED);
  if (seen.kind === "absent") return { ...fail("missing", { hint: "bureau up" }), expected };
  if (seen.kind !== "folder") return { ...notAFolder(path, seen), expected };
  if (seen.uid !== process.getuid?.()) return { ...fail(`owned by user ${seen.uid}`), expected };
  if ((seen.mode & 0o022) !== 0)
    return { ...fail(`mode ${octal(seen.mode)}`, { hint: `chmod go-w "${path}"` }), expected };
  return { ...pass(octal(seen.mode)), expected };
}

const notAFolder = (path: string, seen: Seen): Finding =>
  fail(`a ${seen.kind} is there instead`, { hint: `look at it, and move it away: ls -l ${path}` });
