/** Writes the files of a sandbox's folder: /run/bureau for the program, bubblewrap's input, a generated /etc. */
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { writeAtomically } from "@bureau/os/durable-file";
import type { SandboxPaths } from "@bureau/os/layout";
import type { ProcessId } from "@bureau/os/process-table";
import { removeTree } from "@bureau/os/remove-tree";
import type { SandboxSpec } from "@bureau/schema/launcher-ipc";
import { isOAuthCredential } from "@bureau/schema/oauth-credential";
import type { CredentialBundle } from "../keys.ts";

/**
 * Creates the empty folder; removes the remains of an earlier sandbox of the principal first.
 *
 * With a group of operators, its members may enter a service's folder to reach the sockets in `listen`, but not list it.
 * The sockets get that group by the folder's SGID bit (specification, "Proxy Config Directories").
 */
export function makeSandboxFolder(paths: SandboxPaths, operatorsGid: number | undefined): void {
  const isOpen = paths.serviceLink !== undefined && operatorsGid !== undefined;
  removeTree(paths.dir);
  for (const folder of [dirname(paths.dir), dirname(paths.proxyLink)]) makeFolder(folder, 0o755);
  makeFolder(paths.dir, isOpen ? 0o711 : 0o700);
  makeFolder(paths.inside, isOpen ? 0o711 : 0o755);
  for (const folder of ["service", "programs"]) makeFolder(join(paths.inside, folder), 0o755);
  makeFolder(paths.secrets, 0o700);
  if (paths.serviceLink !== undefined) makeFolder(paths.listen, 0o755);
  if (!isOpen) return;
  chownSync(paths.listen, -1, operatorsGid);
  chmodSync(paths.listen, 0o2750);
}

/** Creates a folder with exactly this mode, for any umask. Creates missing parents with mode 0755 at most. */
function makeFolder(path: string, mode: number): void {
  const before = process.umask(0o022);
  try {
    mkdirSync(path, { recursive: true, mode });
  } finally {
    process.umask(before);
  }
}

/** Links the wire's names for the proxy's socket and a service's socket to them. */
export function linkSockets(paths: SandboxPaths): void {
  const links: [string | undefined, string][] = [
    [paths.proxyLink, paths.proxySocket],
    [paths.serviceLink, paths.serviceSocket],
  ];
  for (const [link, target] of links) {
    if (link === undefined) continue;
    rmSync(link, { force: true });
    symlinkSync(target, link);
  }
}

/** Links to the sandbox's root, through which the proxy reaches the program's socket. */
export const linkRoot = (paths: SandboxPaths, init: ProcessId): void =>
  symlinkSync(`/proc/${init.pid}/root`, paths.root);

/** Sandboxes of older launchers have no such link, but the socket itself in {@link SandboxPaths.listen}. */
export const hasRootLink = (paths: SandboxPaths): boolean =>
  lstatSync(paths.root, { throwIfNoEntry: false }) !== undefined;

/** Replaces the file atomically, so that a reader inside sees the old payload or the new one. */
export function writePayload(paths: SandboxPaths, payload: SandboxSpec["payload"]): void {
  writeAtomically(paths.payload, JSON.stringify(payload ?? {}), 0o600);
}

/**
 * Writes file secrets and returns those for the environment.
 * @throws BureauError `not-found` when the bundle lacks one
 */
export function placeSecrets(
  paths: SandboxPaths,
  bindings: SandboxSpec["secrets"],
  bundle: CredentialBundle,
): Record<string, string> {
  const environment: Record<string, string> = {};
  for (const { key, env, file } of bindings ?? []) {
    const value = Object.hasOwn(bundle, key) && key !== "MATRIX_TOKEN" ? bundle[key] : undefined;
    if (value === undefined)
      throw new BureauError(
        "not-found",
        `Cannot bind the secret "${key}": the principal's credentials have none`,
        {
          hint:
            key === "MATRIX_TOKEN"
              ? "the Matrix token stays with the proxy; use the proxy's Matrix endpoints"
              : `provision a credential named "${key}" for this principal`,
        },
      );
    if (isOAuthCredential(value))
      throw new BureauError(
        "forbidden",
        `Cannot bind the secret "${key}": it is an OAuth refresh token, which stays with the proxy`,
        { hint: "inject it in proxy_services of the template: the proxy sends access tokens made from it" },
      );
    if (env !== undefined) environment[env] = value;
    if (file !== undefined) writeFileSync(join(paths.secrets, file), value, { mode: 0o600 });
  }
  return environment;
}

/** Generates `passwd` and the like, so that a sandbox sees none of the host's users. */
export function writeEtc(
  paths: SandboxPaths,
  who: { readonly uid: number; readonly gid: number; readonly home: string; readonly hostname: string },
  sharesNetwork: boolean,
): { source: string; dest: string }[] {
  const folder = join(paths.dir, "etc");
  mkdirSync(folder, { mode: 0o755 });
  const overflowId = 65534;
  const files: Record<string, string> = {
    passwd: `bureau:x:${who.uid}:${who.gid}:Bureau:${who.home}:/bin/sh\nnobody:x:${overflowId}:${overflowId}::/:/bin/false\n`,
    group: `bureau:x:${who.gid}:\nnogroup:x:${overflowId}:\n`,
    hosts: `127.0.0.1 localhost\n::1 localhost\n127.0.1.1 ${who.hostname}\n`,
    hostname: `${who.hostname}\n`,
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
  };
  const placed = Object.entries(files).map(([name, text]) => {
    writeFileSync(join(folder, name), text, { mode: 0o644 });
    return { source: join(folder, name), dest: `/etc/${name}` };
  });
  if (sharesNetwork && existsSync("/etc/resolv.conf"))
    placed.push({ source: realpathSync("/etc/resolv.conf"), dest: "/etc/resolv.conf" });
  return placed;
}

/** Writes bubblewrap's arguments, NUL-separated. @throws BureauError for one that contains a NUL */
export function writeArguments(paths: SandboxPaths, args: readonly string[]): void {
  const bad = args.findIndex((arg) => arg.includes("\0"));
  if (bad >= 0)
    throw new BureauError(
      "invalid-input",
      `Cannot start: a value of ${args[bad - 1] ?? "the sandbox"} contains a NUL byte`,
    );
  writeFileSync(paths.bwrapArguments, args.map((arg) => `${arg}\0`).join(""), { mode: 0o600 });
}

/** Links for `/bin/sh` and `/usr/bin/env` of an environment with its own tools, so that scripts find them. */
export function environmentLinks(environmentPath: string | undefined): { target: string; dest: string }[] {
  if (environmentPath === undefined) return [];
  if (!/^\/nix\/store\/[A-Za-z0-9+._?=-]+$/.test(environmentPath) || !existsSync(environmentPath))
    throw new BureauError(
      "not-found",
      `Cannot use the environment "${environmentPath}": no such Nix store path here`,
      {
        hint: "realise it first: nix-store --realise <path>",
      },
    );
  return [
    { target: `${environmentPath}/bin/sh`, dest: "/bin/sh" },
    { target: `${environmentPath}/bin/env`, dest: "/usr/bin/env" },
  ].filter(({ target }) => existsSync(target));
}
