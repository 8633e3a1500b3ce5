/** What of the host a sandbox without an environment of its own may see: programs and libraries, never /etc whole. */
import { existsSync, lstatSync, readlinkSync } from "node:fs";
import { homedir, userInfo } from "node:os";
import { BureauError } from "@bureau/kit/errors";
import type { HostTool } from "./bwrap-arguments.ts";

const FOLDERS = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"];
/** What common programs need to find libraries, alternatives, certificates, time zone and service names. */
const SETTINGS = [
  "/etc/alternatives",
  "/etc/ssl/certs",
  "/etc/ssl/openssl.cnf",
  "/etc/pki/tls/certs",
  "/etc/ca-certificates",
  "/etc/ld.so.cache",
  "/etc/ld.so.conf",
  "/etc/ld.so.conf.d",
  "/etc/localtime",
  "/etc/mime.types",
  "/etc/services",
  "/etc/protocols",
];

export function findHostTools(): HostTool[] {
  const tools: HostTool[] = [];
  for (const path of FOLDERS) {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat?.isSymbolicLink()) tools.push({ kind: "link", path, target: readlinkSync(path) });
    else if (stat?.isDirectory()) tools.push({ kind: "bind", path });
  }
  for (const path of SETTINGS) if (existsSync(path)) tools.push({ kind: "bind", path });
  return tools;
}

/** Every folder that counts as the launcher's user's home. `/` is nobody's: a service user may have it as one. */
export function homesOfUser(): string[] {
  const homes = [homedir(), userInfo().homedir, process.env["HOME"] ?? ""];
  return [...new Set(homes)].filter((home) => home.startsWith("/") && home !== "/");
}

/** @throws BureauError `unsupported` when bubblewrap or tmux is missing */
export function findSandboxPrograms(): { bwrap: string } {
  const find = (program: string): string | null => Bun.which(program, { PATH: process.env["PATH"] ?? "" });
  const bwrap = find("bwrap");
  for (const [name, path] of Object.entries({ bubblewrap: bwrap, tmux: find("tmux") }))
    if (path === null)
      throw new BureauError("unsupported", `Cannot run sandboxes: ${name} is not installed`, {
        hint: `install it, for example: sudo apt-get install ${name}`,
      });
  return { bwrap: bwrap ?? "bwrap" };
}
