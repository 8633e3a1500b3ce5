/** Builds that this host has installed: where a copy is, and how it is made. Root owns every copy. */
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  constants,
  copyFileSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { isInStore } from "@bureau/kit/nix-store-path";
import { type Build, readBuild } from "@bureau/os/build";
import { syncPath } from "@bureau/os/durable-file";
import { systemHost } from "@bureau/os/layout";
import { realPath } from "@bureau/os/own-build";

/** The build at `path`, links followed. @throws as {@link readBuild} */
export const buildAt = (path: string): Build => readBuild(realPath(path) ?? path);

/** Where the copy of `build` is; a build in the Nix store needs no copy. */
export const installedPath = (build: Build): string =>
  isInStore(build.path) ? build.path : join(systemHost.buildsDir, build.id);

/** The link that keeps a build in the Nix store; undefined for other builds. */
export const nixRootOf = (build: Build): string | undefined =>
  isInStore(build.path) ? systemHost.nixRoot : undefined;

/** The name of an unfinished copy starts with this. */
const STAGING = ".new-";

/** Copies a build to the host, whole or not at all; durable when it returns. */
export function installBuild(build: Build): void {
  const target = installedPath(build);
  if (target === build.path) return;
  const staging = join(dirname(target), `${STAGING}${randomBytes(4).toString("hex")}`);
  for (const entry of readdirSync(dirname(target)))
    if (entry.startsWith(STAGING)) rmSync(join(dirname(target), entry), { recursive: true, force: true });
  try {
    copyFolder(build.path, staging);
    // It may be there, but no longer whole.
    rmSync(target, { recursive: true, force: true });
    renameSync(staging, target);
    syncPath(dirname(target));
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

function copyFolder(from: string, to: string): void {
  mkdirSync(to, { mode: 0o755 });
  chmodSync(to, 0o755);
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    if (entry.isDirectory()) copyFolder(source, target);
    else {
      copyFileSync(source, target, constants.COPYFILE_FICLONE);
      chownSync(target, 0, 0);
      chmodSync(target, (statSync(source).mode & 0o111) === 0 ? 0o644 : 0o755);
      syncPath(target);
    }
  }
  syncPath(to);
}

/** The build a process runs, by the path of its runtime or its bundle: `<build>/runtime/bun`, `<build>/lib/x/main.js`. */
export function buildOfProcessPath(path: string): string | undefined {
  const match = /^(.*)\/(?:runtime\/bun|lib\/[^/]+\/main\.js)$/.exec(path);
  return match?.[1];
}
