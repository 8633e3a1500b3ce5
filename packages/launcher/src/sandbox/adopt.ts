/**
 * A launcher's first act: make its knowledge equal what runs. Sandboxes that live are adopted at once, so that clients
 * which waited while one launcher replaced another are answered; what ended meanwhile is accounted for, and what is half
 * made or belongs to no record is cleared away, before anything is changed.
 */
import { existsSync, lstatSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { tmuxSession } from "@bureau/os/layout";
import { isAlive } from "@bureau/os/process-table";
import { removeTree } from "@bureau/os/remove-tree";
import type { PrincipalName } from "@bureau/schema/refs";
import { clearSandbox, hasEnded, recordExit } from "./destroy.ts";
import { findRecords, isWhole, type SandboxRecord } from "./record.ts";
import { fleetFolder, pathsOf, type SandboxHost } from "./sandbox-host.ts";

/** What {@link adoptSandboxes} leaves to {@link clearLeftovers}. */
export type Leftovers = {
  /** Every sandbox whose record is whole. */
  readonly whole: readonly SandboxRecord[];
  /** Those of them that ended while no launcher ran; the table does not have them yet. */
  readonly ended: readonly SandboxRecord[];
  readonly unfinished: readonly { readonly principal: PrincipalName; readonly record?: SandboxRecord }[];
  /** Entries among the sandboxes' folders that are none. */
  readonly strays: readonly string[];
};

/** Adopts the sandboxes that live, and those whose end is in their record. Asks no other program and waits for nothing. */
export function adoptSandboxes(host: SandboxHost): Leftovers {
  const { sandboxes, strays } = findRecords(host.config.layout, host.config.fleet);
  const whole = sandboxes.map(({ record }) => record).filter(isWhole);
  const ended = whole.filter((record) => record.phase === "running" && hasEnded(host, record));
  for (const record of whole.filter((one) => !ended.includes(one))) {
    host.table.put(record);
    if (record.phase === "running") host.watch.add(record.principal);
    host.log.info("sandbox.adopted", "sandbox adopted", { principal: record.principal, phase: record.phase });
  }
  const unfinished = sandboxes.flatMap(({ principal, record }) =>
    isWhole(record) ? [] : [{ principal, ...(record === undefined ? {} : { record }) }],
  );
  return { whole, ended, unfinished, strays };
}

/** Does the rest. The tmux server runs, and no sandbox or proxy is made meanwhile. */
export async function clearLeftovers(host: SandboxHost, leftovers: Leftovers): Promise<void> {
  const { whole, ended, unfinished, strays } = leftovers;
  // Orphaned proxies first: a half-made sandbox's record does not name its proxy.
  const orphans = await host.proxies.stopOrphans(whole.flatMap(({ proxy }) => proxy ?? []));
  if (orphans > 0)
    host.log.warn("proxy.orphans-stopped", "stopped proxies that belong to no sandbox", { orphans });
  // A process that does not die keeps no other sandbox from being cleared.
  const logged = (principal: PrincipalName, work: Promise<void>): Promise<void> =>
    work.catch((error: unknown) =>
      host.log.error("sandbox.recover-failed", "cannot clear what the launcher before left", {
        principal,
        error,
      }),
    );
  await Promise.all([
    ...ended.map((record) => logged(record.principal, adoptEnded(host, record))),
    ...whole.map((record) => logged(record.principal, stopProxyOfEnded(host, record))),
    ...unfinished.map(({ principal, record }) => logged(principal, clear(host, principal, record))),
  ]);
  await killUnknownSessions(host);
  removeRehearsals(host.config.layout.runDir);
  for (const stray of strays) removeTree(stray);
  removeStraySockets(host);
}

/** Where proxies that were killed tried out what they do first. */
function removeRehearsals(runDir: string): void {
  for (const name of readdirSync(runDir))
    if (/^spare-[A-Za-z0-9]{6}$/.test(name)) rmSync(join(runDir, name), { recursive: true, force: true });
}

async function adoptEnded(host: SandboxHost, record: SandboxRecord): Promise<void> {
  const { principal } = record;
  host.table.put(record);
  try {
    await recordExit(host, principal);
  } finally {
    const { phase } = host.table.get(principal) ?? record;
    // What could not be accounted for is tried again.
    if (phase === "running") host.watch.add(principal);
    host.log.info("sandbox.adopted", "sandbox adopted", { principal, phase });
  }
}

/** The launcher before may have been killed between the two. */
async function stopProxyOfEnded(host: SandboxHost, { phase, proxy }: SandboxRecord): Promise<void> {
  if (phase === "exited" && proxy !== undefined && isAlive(proxy)) await host.proxies.stop(proxy);
}

async function clear(
  host: SandboxHost,
  principal: PrincipalName,
  record: SandboxRecord | undefined,
): Promise<void> {
  host.log.warn("sandbox.unfinished", "clearing a sandbox that was not finished", {
    principal,
    record: record?.phase ?? "unreadable",
  });
  try {
    await clearSandbox(host, principal);
  } catch (error) {
    // As long as it is known, no other is made in its place.
    if (record !== undefined) host.table.put(record);
    host.clearLater(principal);
    throw error;
  }
}

async function killUnknownSessions(host: SandboxHost): Promise<void> {
  const known = new Set<string>(host.table.all().map(({ principal }) => tmuxSession(principal)));
  for (const { session } of await host.tmux.listSessions()) {
    if (!session.startsWith("bureau/") || known.has(session)) continue;
    host.log.warn("sandbox.orphan-killed", "killing a terminal that belongs to no sandbox", { session });
    await host.tmux.killSession(session);
  }
}

/** Sockets, and links to them, below the fleet's folder that no known sandbox owns. */
function removeStraySockets(host: SandboxHost): void {
  const owned = new Set(
    host.table.all().flatMap(({ principal }) => {
      const { proxyLink, adminSocket, serviceLink } = pathsOf(host, principal);
      return [proxyLink, adminSocket, serviceLink];
    }),
  );
  const root = fleetFolder(host);
  const visit = (folder: string): void => {
    for (const entry of readdirSync(folder)) {
      const path = join(folder, entry);
      if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) visit(path);
      else if (entry.endsWith(".sock") && !owned.has(path)) rmSync(path, { force: true });
    }
  };
  for (const entry of existsSync(root) ? readdirSync(root) : [])
    if (entry !== "sandbox" && lstatSync(join(root, entry)).isDirectory()) visit(join(root, entry));
}
