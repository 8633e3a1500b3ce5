/**
 * A launcher's first act: make its knowledge equal what runs. Sandboxes whose record is whole are adopted, with
 * whatever happened to them meanwhile; what is half made or belongs to no record is cleared away.
 */
import { existsSync, lstatSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { tmuxSession } from "@bureau/kit/layout";
import { isAlive } from "@bureau/kit/process-table";
import type { AccountLocalpart } from "@bureau/schema/refs";
import { clearSandbox, recordExit } from "./destroy.ts";
import { findRecords, type SandboxRecord } from "./record.ts";
import { fleetFolder, pathsOf, type SandboxHost } from "./sandbox-host.ts";

export async function adoptSandboxes(host: SandboxHost): Promise<void> {
  const { sandboxes, strays } = findRecords(host.config.layout, host.config.fleet);
  const whole = sandboxes.map(({ record }) => record).filter(isWhole);
  // Orphaned proxies first: a half-made sandbox's record does not name its proxy.
  const orphans = await host.proxies.stopOrphans(whole.flatMap(({ proxy }) => proxy ?? []));
  if (orphans > 0) host.log.warn("stopped proxies that belong to no sandbox", { orphans });
  await Promise.all(
    sandboxes.map(({ principal, record }) =>
      isWhole(record) ? adopt(host, record) : clear(host, principal, record),
    ),
  );
  await killUnknownSessions(host);
  for (const stray of strays) rmSync(stray, { recursive: true, force: true });
  removeStraySockets(host);
}

const isWhole = (record: SandboxRecord | undefined): record is SandboxRecord =>
  record !== undefined && record.phase !== "creating";

async function adopt(host: SandboxHost, record: SandboxRecord): Promise<void> {
  host.table.put(record);
  await recordExit(host, record.principal);
  const now = host.table.get(record.principal) ?? record;
  if (now.phase === "running") host.watch.add(record.principal);
  else if (now.proxy !== undefined && isAlive(now.proxy)) await host.proxies.stop(now.proxy);
  host.log.info("sandbox adopted", { principal: record.principal, phase: now.phase });
}

async function clear(
  host: SandboxHost,
  principal: AccountLocalpart,
  record: SandboxRecord | undefined,
): Promise<void> {
  host.log.warn("clearing a sandbox that was not finished", {
    principal,
    record: record?.phase ?? "unreadable",
  });
  await clearSandbox(host, principal);
}

async function killUnknownSessions(host: SandboxHost): Promise<void> {
  const known = new Set<string>(host.table.all().map(({ principal }) => tmuxSession(principal)));
  for (const { session } of await host.tmux.listSessions()) {
    if (!session.startsWith("bureau/") || known.has(session)) continue;
    host.log.warn("killing a terminal that belongs to no sandbox", { session });
    await host.tmux.killSession(session);
  }
}

/** Proxy and admin sockets below the fleet's folder that no known sandbox owns. */
function removeStraySockets(host: SandboxHost): void {
  const owned = new Set(
    host.table.all().flatMap(({ principal }) => {
      const { proxyLink, adminSocket } = pathsOf(host, principal);
      return [proxyLink, adminSocket];
    }),
  );
  const root = fleetFolder(host);
  const visit = (folder: string): void => {
    for (const entry of readdirSync(folder)) {
      const path = join(folder, entry);
      if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) visit(path);
      else if (/\.(proxy|admin)\.sock$/.test(entry) && !owned.has(path)) rmSync(path, { force: true });
    }
  };
  for (const entry of existsSync(root) ? readdirSync(root) : [])
    if (entry !== "sandbox" && lstatSync(join(root, entry)).isDirectory()) visit(join(root, entry));
}
