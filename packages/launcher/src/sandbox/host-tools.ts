/** Finds on the host: tools for sandboxes, homes, and the programs that the launcher needs. */
import { existsSync, lstatSync, readlinkSync } from "node:fs";
import { userInfo } from "node:os";
import { BureauError } from "@bureau/kit/errors";
import { hostToolFolders, hostToolSettings } from "@bureau/schema/host-tools";
import type { Mount } from "@bureau/schema/template";
import type { HostTool } from "./bwrap-arguments.ts";
import type { SandboxPrograms } from "./script.ts";

export function findHostTools(): HostTool[] {
  const tools: HostTool[] = [];
  for (const path of hostToolFolders) {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat?.isSymbolicLink()) tools.push({ kind: "link", path, target: readlinkSync(path) });
    else if (stat?.isDirectory()) tools.push({ kind: "bind", path });
  }
  for (const path of hostToolSettings) if (existsSync(path)) tools.push({ kind: "bind", path });
  return tools;
}

const hostToolPaths: ReadonlySet<string> = new Set([...hostToolFolders, ...hostToolSettings]);

/**
 * Pure. Templates list the host's tools as optional mounts, for launchers that do not mount them by themselves. This
 * launcher mounts them, or the template's environment instead.
 */
export const withoutHostTools = (mounts: readonly Mount[]): Mount[] =>
  mounts.filter(
    ({ source, dest, type, mode, optional }) =>
      !(optional === true && source === dest && type !== "tmpfs" && mode !== "rw" && hostToolPaths.has(dest)),
  );

/** The homes of the launcher's user. Never `/`, which service users may have as home. */
export function homesOfUser(): string[] {
  const homes = [passwdHome(), process.env["HOME"] ?? ""];
  return [...new Set(homes)].filter((home) => home.startsWith("/") && home !== "/");
}

/** Empty for an account without an entry. */
function passwdHome(): string {
  try {
    return userInfo().homedir;
  } catch {
    return "";
  }
}

/** @throws BureauError `unsupported` when bubblewrap or tmux is missing */
export function findSandboxPrograms(): SandboxPrograms {
  const find = (program: string): string | null => Bun.which(program, { PATH: process.env["PATH"] ?? "" });
  const bwrap = find("bwrap");
  for (const [name, path] of Object.entries({ bubblewrap: bwrap, tmux: find("tmux") }))
    if (path === null)
      throw new BureauError("unsupported", `Cannot run sandboxes: ${name} is not installed`, {
        hint: `install it, for example: sudo apt-get install ${name}`,
      });
  return { bwrap: bwrap ?? "bwrap", keyctl: usableKeyctl(find("keyctl")) };
}

/** Some containers have no keyrings. */
function usableKeyctl(keyctl: string | null): string | undefined {
  if (keyctl === null) return undefined;
  const tried = Bun.spawnSync([keyctl, "session", "-", "/bin/sh", "-c", ":"], {
    cwd: "/",
    env: {},
    stdio: ["ignore", "ignore", "ignore"],
  });
  return tried.exitCode === 0 ? keyctl : undefined;
}
