/**
 * The first step of a launcher: it adopts running sandboxes at once, so that it can answer clients that waited during a
 * replacement. Then, before any change, it records the exits of ended ones and clears sandboxes that are unfinished or
 * have no record.
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

/** The input of {@link clearLeftovers}, from {@link adoptSandboxes}. */
export type Leftovers = {
  /** Every sandbox with a complete record. */
  readonly whole: readonly SandboxRecord[];
  /** Those of `whole` that ended while no launcher ran; the table does not have them yet. */
  readonly ended: readonly SandboxRecord[];
  readonly unfinished: readonly { readonly principal: PrincipalName; readonly record?: SandboxRecord }[];
  /** Entries beside the sandboxes' folders that are no sandbox. */
  readonly strays: readonly string[];
};

/** Adopts running sandboxes, and those with a recorded exit. Runs no other program and never waits. */
export function adoptSandboxes(host: SandboxHost): Leftovers {
  const { sandboxes, strays } = findRecords(host.config.layout, host.config.fleet);
  const whole = sandboxes.map(({ record }) => record).filter(isWhole);
  const ended = whole.filter((record) => record.phase === "running" && hasEnded(host, record));
  for (const record of whole.filter((one) => !ended.includes(one))) {
    host.table.adopt(record);
    if (record.phase === "running") host.watch.add(record.principal, record.processes ?? {});
    host.log.info("sandbox.adopted", "sandbox adopted", { principal: record.principal, phase: record.phase });
  }
  const unfinished = sandboxes.flatMap(({ principal, record }) =>
    isWhole(record) ? [] : [{ principal, ...(record === undefined ? {} : { record }) }],
  );
  return { whole, ended, unfinished, strays };
}

/** Clears the rest. The tmux server must run; no sandbox or proxy may be started meanwhile. */
export async function clearLeftovers(host: SandboxHost, leftovers: Leftovers): Promise<void> {
  const { whole, ended, unfinished, strays } = leftovers;
  // Orphaned proxies first: the record of an unfinished sandbox does not name its proxy.
  const orphans = await host.proxies.stopOrphans(whole.flatMap(({ proxy }) => proxy ?? []));
  if (orphans > 0)
    host.log.warn("proxy.orphans-stopped", "stopped proxies that belong to no sandbox", { orphans });
  // A process that does not die must not prevent the clearing of other sandboxes.
  const logged = (principal: PrincipalName, work: Promise<void>): Promise<void> =>
    work.catch((error: unknown) =>
      host.log.error("sandbox.recover-failed", "cannot clear a sandbox of an earlier launcher", {
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

/** Removes folders in which spare proxies of earlier builds rehearsed their start, and were killed. */
function removeRehearsals(runDir: string): void {
  for (const name of readdirSync(runDir))
    if (/^spare-[A-Za-z0-9]{6}$/.test(name)) rmSync(join(runDir, name), { recursive: true, force: true });
}

async function adoptEnded(host: SandboxHost, record: SandboxRecord): Promise<void> {
  const { principal } = record;
  host.table.adopt(record);
  try {
    await recordExit(host, principal);
  } finally {
    const { phase } = host.table.get(principal) ?? record;
    // The watch tries again when the exit could not be recorded.
    if (phase === "running") host.watch.add(principal, record.processes ?? {});
    host.log.info("sandbox.adopted", "sandbox adopted", { principal, phase });
  }
}

/** An earlier launcher may have been killed after it recorded the exit and before it stopped the proxy. */
async function stopProxyOfEnded(host: SandboxHost, { phase, proxy }: SandboxRecord): Promise<void> {
  if (phase === "exited" && proxy !== undefined && isAlive(proxy)) await host.proxies.stop(proxy);
}

async function clear(
  host: SandboxHost,
  principal: PrincipalName,
  record: SandboxRecord | undefined,
): Promise<void> {
  host.log.warn("sandbox.unfinished", "clearing an unfinished sandbox", {
    principal,
    record: record?.phase ?? "unreadable",
  });
  try {
    await clearSandbox(host, principal);
  } catch (error) {
    // While the table has it, no new sandbox can replace it.
    if (record !== undefined) host.table.put(record);
    host.clearLater(principal);
    throw error;
  }
}

async function killUnknownSessions(host: SandboxHost): Promise<void> {
  const known = new Set<string>(host.table.all().map(({ principal }) => tmuxSession(principal)));
  for (const { session } of await host.tmux.listSessions()) {
    if (!session.startsWith("bureau/") || known.has(session)) continue;
    host.log.warn("sandbox.orphan-killed", "killing a tmux session that belongs to no sandbox", { session });
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
