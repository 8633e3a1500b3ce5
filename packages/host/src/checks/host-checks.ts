/** What Bureau needs of the host besides its own parts: space and time. */
import { systemHost } from "@bureau/os/layout";
import { runCommand } from "../system/run-command.ts";
import {
  byFix,
  byHand,
  type Check,
  everyInstallation,
  type Finding,
  fail,
  pass,
  type Remedy,
  skip,
  warn,
} from "./check.ts";
import { fileSystemOf, findingOfSpace } from "./free-space.ts";
import type { HostView } from "./host-view.ts";

/** Half of the error of a heartbeat's time stamp after which other machines count this one as gone. */
const SKEW_WARN_MS = 5_000;
const SKEW_FAIL_MS = 60_000;

export const hostChecks: readonly Check[] = [
  disk("state", "the machine's state", ({ layout }) => layout.stateDir),
  disk("data", "workspaces and builds", ({ kind, layout }) =>
    kind === "system" ? systemHost.dataDir : layout.workspaceRoot,
  ),
  disk("run", "sockets", ({ layout }) => layout.runDir),
  {
    id: "clock",
    group: "host",
    title: "Clock",
    expected: `within ${SKEW_WARN_MS / 1000} s of the homeserver's`,
    repair: byFix("lets systemd set it by the network, where the host has a service for that"),
    scope: everyInstallation,
    run: clock,
  },
];

function disk(name: string, content: string, pathOf: (host: HostView) => string): Check {
  return {
    id: `disk-${name}`,
    group: "host",
    title: `Space for ${content}`,
    expected: "at least 10 % and 2 GiB free, and 10 % of its inodes (1 % and 100 MiB at the very least)",
    repair: byHand("free space"),
    scope: everyInstallation,
    run(host) {
      const { at, stat } = fileSystemOf(pathOf(host));
      return findingOfSpace(at, stat);
    },
  };
}

async function clock(host: HostView): Promise<Finding> {
  const skewMs = (await host.homeserver())?.skewMs;
  if (skewMs === undefined) return skip("no homeserver tells the time");
  const seconds = Math.round(Math.abs(skewMs) / 1000);
  const found = seconds === 0 ? "the same" : `${seconds} s ${skewMs > 0 ? "behind" : "ahead"}`;
  if (Math.abs(skewMs) <= SKEW_WARN_MS) return pass(found);
  const byNetwork = await canSetByNetwork();
  const remedy: Remedy =
    byNetwork && host.kind === "system"
      ? { actions: [{ kind: "ntp" }] }
      : {
          hint: "timedatectl; install and enable a time service such as systemd-timesyncd or chrony, on this host or on the homeserver's",
        };
  return Math.abs(skewMs) > SKEW_FAIL_MS ? fail(found, remedy) : warn(found, remedy);
}

async function canSetByNetwork(): Promise<boolean> {
  const { stdout } = await runCommand(["timedatectl", "show", "--property", "CanNTP,NTP"], {
    timeoutMs: 3_000,
  });
  return stdout.includes("CanNTP=yes") && stdout.includes("NTP=no");
}
