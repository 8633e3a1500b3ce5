/** Every folder of the installation: there, with its owner, group and mode (specification, "Directory Ownership"). */
import { systemHost, systemLayout } from "@bureau/os/layout";
import { look, octal, type Seen } from "../system/look.ts";
import { type HostFolder, hostFolders } from "../units/host-folders.ts";
import { type Check, type Finding, fail, hidden, pass } from "./check.ts";
import type { HostView } from "./host-view.ts";

/** Ids stay the same wherever a folder lies. */
const names: Readonly<Record<string, string>> = {
  [systemHost.configDir]: "config",
  [systemLayout.runDir]: "run",
  [systemLayout.stateDir]: "state",
  [systemHost.dataDir]: "data",
  [systemLayout.workspaceRoot]: "workspace",
  [systemLayout.cacheRoot]: "cache",
  [systemHost.buildsDir]: "builds",
  [systemHost.programsDir]: "programs",
  [systemHost.binDir]: "bin",
};

const nameOf = (path: string): string => names[path] ?? path.slice(1).replaceAll("/", "-");

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
    repair: "makes it, or sets owner and mode",
    ...(inside === undefined ? { systemOnly: "a rootless instance has no such folder" } : {}),
    probe: (host) =>
      host.kind === "rootless" && inside !== undefined ? ownFolder(inside(host)) : systemFolder(host, folder),
  };
});

function systemFolder(host: HostView, folder: HostFolder): Finding {
  const { path, owner, group, mode } = folder;
  const seen = look(path);
  if (seen.kind === "hidden") return hidden("you may not look: a folder above is closed to you");
  const make = { actions: [{ kind: "folder", path, owner, group, mode } as const] };
  if (seen.kind === "absent") return fail("missing", make);
  if (seen.kind !== "folder") return notAFolder(path, seen);
  const accounts = host.accounts();
  const found = `${accounts.userName(seen.uid)}:${accounts.groupName(seen.gid)} ${octal(seen.mode)}`;
  return found === `${owner}:${group} ${octal(mode)}` ? pass(found) : fail(found, make);
}

function ownFolder(path: string): Finding {
  const expected = `${path}, yours alone to write`;
  const seen = look(path);
  if (seen.kind === "hidden") return hidden("you may not look: a folder above is closed to you");
  if (seen.kind === "absent") return { ...fail("missing", { hint: "bureau up" }), expected };
  if (seen.kind !== "folder") return { ...notAFolder(path, seen), expected };
  if (seen.uid !== process.getuid?.()) return { ...fail("somebody else's"), expected };
  if ((seen.mode & 0o022) !== 0)
    return { ...fail(`mode ${octal(seen.mode)}`, { hint: `chmod go-w "${path}"` }), expected };
  return { ...pass(octal(seen.mode)), expected };
}

const notAFolder = (path: string, seen: Seen): Finding =>
  fail(`a ${seen.kind} lies there`, { hint: `look at it, and move it away: ls -l ${path}` });
