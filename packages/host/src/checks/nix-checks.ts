/**
 * Nix, where the host has it. The daemon can fetch other builds only from the caches that Nix's own daemon uses and trusts,
 * and only when it may connect to that daemon.
 */
import { existsSync, readFileSync } from "node:fs";
import { isBureauError } from "@bureau/kit/errors";
import { viaNetwork } from "@bureau/os/egress";
import { systemHost } from "@bureau/os/layout";
import { daemonUnit } from "@bureau/os/unit-names";
import type { MachineReport } from "@bureau/schema/observe-wire";
import type { Action } from "../resources/registry.ts";
import { look } from "../system/look.ts";
import { daemonGroup, hasOldConfig, nixDaemonUnit, readNixConfig } from "../system/nix-host.ts";
import { runCommand } from "../system/run-command.ts";
import {
  byFix,
  byHand,
  type Check,
  everyInstallation,
  type Finding,
  fail,
  pass,
  skip,
  systemOnly,
  warn,
} from "./check.ts";
import type { HostView } from "./host-view.ts";

const { user } = systemHost;
/** A cache serves /nix-cache-info, which names its store. */
const CACHE_MS_MAX = 2_000;

export const nixChecks: readonly Check[] = [
  {
    id: "nix",
    group: "host",
    title: "Nix",
    expected: "answers, and so do its caches",
    repair: byHand("start a cache that does not answer, or remove it from Nix's configuration"),
    scope: everyInstallation,
    run: nix,
  },
  {
    id: "nix-access",
    group: "host",
    title: "Nix for the system user",
    expected: `"${user}" may connect to Nix's daemon`,
    repair: byFix("adds it to the group that may"),
    scope: systemOnly("a rootless instance has your permissions"),
    run: access,
  },
  {
    id: "nix-cache",
    group: "host",
    title: "The fleet's cache",
    expected: "Nix uses it, and trusts its keys (bureau fleet cache shows them)",
    repair: byFix("adds lines to Nix's configuration, and restarts its daemon"),
    scope: everyInstallation,
    run: fleetCache,
  },
];

const hasNix = (): boolean =>
  Bun.which("nix-store") !== null || existsSync("/nix/var/nix/profiles/default/bin/nix-store");

async function nix(): Promise<Finding> {
  if (!hasNix()) return skip("Nix is not installed; templates with an environment cannot run");
  const version = await runCommand(["nix-store", "--version"], { timeoutMs: 3_000 });
  const urls = [...new Set(readNixConfig().substituters)].filter((url) => /^https?:/.test(url));
  const asked = await Promise.all(urls.map(async (url) => ((await isCache(url)) ? undefined : url)));
  const away = asked.filter((url) => url !== undefined);
  const found = version.code === 0 ? version.stdout.trim() : "Nix";
  return away.length === 0
    ? pass(`${found}${urls.length === 0 ? "" : `, ${urls.length} caches`}`)
    : warn(`${found}; caches that do not answer: ${away.join(", ")}`);
}

async function isCache(url: string): Promise<boolean> {
  try {
    const response = await fetch(`${url.replace(/\/+$/, "")}/nix-cache-info`, {
      ...viaNetwork(url),
      signal: AbortSignal.timeout(CACHE_MS_MAX),
    });
    return response.ok && (await response.text()).includes("StoreDir:");
  } catch {
    return false;
  }
}

async function access(host: HostView): Promise<Finding> {
  if (!hasNix()) return skip("Nix is not installed");
  const gid = daemonGroup();
  if (gid === undefined) return pass("every user may");
  const accounts = host.accounts();
  const group = accounts.groupName(gid);
  const daemon = (await host.units()).get(daemonUnit);
  const again: Action[] = daemon?.active === "active" ? [{ kind: "restart", unit: daemonUnit }] : [];
  if (!accounts.isMember(user, group))
    return fail(`only members of "${group}" may, and "${user}" is not a member`, {
      actions: [{ kind: "member", user, group }, ...again],
    });
  return daemon?.pid === undefined || groupsOf(daemon.pid).includes(gid)
    ? pass(`as a member of "${group}"`)
    : fail("the daemon started before it was a member", { actions: again });
}

/** A process's supplementary groups. Of a process that is gone, the daemon's group: there is nothing to report. */
function groupsOf(pid: number): number[] {
  try {
    const line = /^Groups:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "";
    return line.trim().split(/\s+/).map(Number);
  } catch {
    return [daemonGroup() ?? 0];
  }
}

async function fleetCache(host: HostView): Promise<Finding> {
  if (!hasNix()) return skip("Nix is not installed");
  const report = await host.report();
  if (isBureauError(report)) return skip("the daemon does not answer");
  const cache = report.fleet_cache;
  if (cache === undefined) return skip("the fleet has no cache (bureau fleet cache)");
  const config = readNixConfig();
  const wrong = [
    ...(config.substituters.includes(cache.url) ? [] : [`Nix does not use ${cache.url}`]),
    ...cache.public_keys
      .filter((key) => !config.publicKeys.includes(key))
      .map((key) => `Nix does not trust ${key}`),
  ];
  const isStale = wrong.length === 0 && (await hasOldConfig());
  if (wrong.length === 0 && !isStale) return pass(cache.url);
  const found = isStale ? "Nix's daemon started before its configuration changed" : wrong.join("; ");
  const byHand = look(config.file).kind !== "file" && look(config.file).kind !== "absent";
  if (host.kind === "rootless" || byHand)
    return warn(found, { hint: `add to Nix's configuration: ${linesFor(cache).join("; ")}` });
  const actions: Action[] = [
    ...(isStale ? [] : [{ kind: "block", path: config.file, lines: linesFor(cache) } as const]),
    { kind: "restart", unit: nixDaemonUnit },
  ];
  return warn(found, { actions });
}

const linesFor = ({ url, public_keys }: NonNullable<MachineReport["fleet_cache"]>): string[] => [
  `extra-substituters = ${url}`,
  ...(public_keys.length === 0 ? [] : [`extra-trusted-public-keys = ${public_keys.join(" ")}`]),
];
