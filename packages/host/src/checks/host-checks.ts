/** What else must be right around Bureau: space, time, Nix. */
import { existsSync, type StatsFs, statfsSync } from "node:fs";
import { dirname } from "node:path";
import { systemHost } from "@bureau/os/layout";
import { runCommand } from "../system/run-command.ts";
import { type Check, type Finding, fail, pass, skip, warn } from "./check.ts";
import type { HostView } from "./host-view.ts";

const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

/** Below these nothing can be written for much longer, or any more. */
const spaceWarn = { share: 0.1, bytes: 2 * GIB };
const spaceFail = { share: 0.01, bytes: 100 * MIB };

/** Half of what a heartbeat's stamp may be wrong before others take this machine for gone. */
const SKEW_WARN_MS = 5_000;
const SKEW_FAIL_MS = 60_000;

export const hostChecks: readonly Check[] = [
  disk("state", ({ layout }) => layout.stateDir),
  disk("data", ({ kind, layout }) => (kind === "system" ? systemHost.dataDir : layout.workspaceRoot)),
  disk("run", ({ layout }) => layout.runDir),
  {
    id: "clock",
    group: "host",
    title: "Clock",
    expected: `within ${SKEW_WARN_MS / 1000} s of the homeserver's`,
    repair: "lets systemd set it by the network, where the host has a service for that",
    probe: clock,
  },
];

function disk(name: string, pathOf: (host: HostView) => string): Check {
  return {
    id: `disk-${name}`,
    group: "host",
    title: `Space for ${name === "data" ? "workspaces and programs" : name === "run" ? "sockets" : "the machine's state"}`,
    expected: "at least 10 % and 2 GiB free, and 10 % of its inodes (1 % and 100 MiB at the very least)",
    repair: "by hand: free space",
    probe: (host) => space(pathOf(host)),
  };
}

function space(path: string): Finding {
  let at = path;
  while (!existsSync(at) && at !== "/") at = dirname(at);
  const stat = statfsSync(at);
  const inodes = inodeFinding(at, stat);
  const blocks = blockFinding(at, stat);
  return severity[inodes.status] > severity[blocks.status] ? inodes : blocks;
}

type FileSystem = Pick<StatsFs, "bavail" | "bsize" | "blocks" | "ffree" | "files">;
const severity: Readonly<Record<Finding["status"], number>> = { skip: 0, pass: 0, warn: 1, fail: 2 };

/** Without free inodes no file can be created, even with free space. Some file systems count none (Btrfs). */
export function inodeFinding(at: string, { ffree, files }: FileSystem): Finding {
  if (files === 0) return pass("inodes are not limited");
  const share = ffree / files;
  const found = `${ffree} of ${files} inodes free on ${at}, ${Math.floor(share * 100)} %`;
  const hint = { hint: `du -x --inodes --max-depth=2 ${at} | sort -n | tail` };
  if (share < spaceFail.share) return fail(found, hint);
  return share < spaceWarn.share ? warn(found, hint) : pass(found);
}

function blockFinding(at: string, stat: FileSystem): Finding {
  const [free, total] = [stat.bavail * stat.bsize, stat.blocks * stat.bsize];
  const share = total === 0 ? 1 : free / total;
  const found = `${sizeText(free)} free on ${at}, ${Math.floor(share * 100)} % of ${sizeText(total)}`;
  const hint = { hint: `du -xh --max-depth=2 ${at} | sort -h | tail` };
  // A small file system in memory is small on purpose: its share says more.
  const small = total < 2 * spaceWarn.bytes;
  if (share < spaceFail.share || (free < spaceFail.bytes && !(small && share > 0.5)))
    return fail(found, hint);
  if (share < spaceWarn.share || (free < spaceWarn.bytes && !small)) return warn(found, hint);
  return pass(found);
}

export const sizeText = (bytes: number): string =>
  bytes >= GIB ? `${(bytes / GIB).toFixed(1)} GiB` : `${Math.floor(bytes / MIB)} MiB`;

async function clock(host: HostView): Promise<Finding> {
  const skewMs = (await host.homeserver())?.skewMs;
  if (skewMs === undefined) return skip("no homeserver says what time it is");
  const seconds = Math.round(Math.abs(skewMs) / 1000);
  const found = seconds === 0 ? "the same" : `${seconds} s ${skewMs > 0 ? "behind" : "ahead"}`;
  if (Math.abs(skewMs) <= SKEW_WARN_MS) return pass(found);
  const byNetwork = await canSetByNetwork();
  const repair: Pick<Finding, "actions" | "hint"> =
    byNetwork && host.kind === "system"
      ? { actions: [{ kind: "ntp" }] }
      : {
          hint: "timedatectl; install and enable a time service such as systemd-timesyncd or chrony, here or there",
        };
  return Math.abs(skewMs) > SKEW_FAIL_MS ? fail(found, repair) : warn(found, repair);
}

async function canSetByNetwork(): Promise<boolean> {
  const { stdout } = await runCommand(["timedatectl", "show", "--property", "CanNTP,NTP"], {
    timeoutMs: 3_000,
  });
  return stdout.includes("CanNTP=yes") && stdout.includes("NTP=no");
}
