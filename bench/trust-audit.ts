/**
 * Records appended to the audit log, beside lines of the same length appended to a bare file with the same durability:
 * written, so that a killed process loses none; or on the disk at once, as a sensitive act that is allowed must be before
 * it happens. Both are measured in turns, and the figure is the best of them.
 */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AuditFile } from "@bureau/daemon/audit/audit-file";
import { AuditLog } from "@bureau/daemon/audit/audit-log";
import { systemClock } from "@bureau/kit/clock";
import { silentLog } from "@bureau/os/testing/silent-log";
import type { AuditRecord } from "@bureau/schema/audit";
import { type Figure, figure } from "./statistics.ts";

const ROUNDS = 5;
const WRITTEN = 5_000;
const DURABLE = 50;
const REPEATED = 50_000;

const record = (at: number): AuditRecord => ({
  decision: "deny",
  actor: "@bureau/fleet/prod/agent/team/worker:example.org",
  action: `ticket/create/${at}`,
  target: "@bureau/fleet/prod/agent/team/other:example.org",
  reason: "no matching grant",
  enforcement_point: "daemon/observe",
  machine: "@bureau/fleet/prod/machine/gpu-box:example.org",
});

export async function benchTrustAudit(): Promise<Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), "bench-audit-"));
  try {
    const best = { written: 0, bareWritten: 0, durable: 0, bareDurable: 0, repeated: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const path = join(folder, `${round}`);
      const keep = (key: keyof typeof best, perSecond: number): void => {
        best[key] = Math.max(best[key], perSecond);
      };
      const { written, durable, repeated, lineBytes } = ours(path);
      keep("written", written);
      keep("durable", durable);
      keep("repeated", repeated);
      keep("bareWritten", bare(`${path}.bare`, lineBytes, WRITTEN, false));
      keep("bareDurable", bare(`${path}.bare`, lineBytes, DURABLE, true));
    }
    return [
      figure("audit, records written", best.written, "records/s", {
        name: "a bare line",
        value: best.bareWritten,
      }),
      figure("audit, records on the disk", best.durable, "records/s", {
        name: "a bare line with fdatasync",
        value: best.bareDurable,
      }),
      figure("audit, equal denials counted", best.repeated, "records/s", {
        name: "a bare line each",
        value: best.bareWritten,
      }),
    ];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function ours(path: string) {
  using file = new AuditFile(path, { machine: record(0).machine, log: silentLog });
  const auditLog = new AuditLog({ file, clock: systemClock, log: silentLog, onChange: () => {} });
  const before = statSync(path).size;
  const written = perSecond(WRITTEN, (at) => auditLog.happened(record(at)));
  const lineBytes = Math.round((statSync(path).size - before) / WRITTEN);
  const durable = perSecond(DURABLE, (at) => {
    auditLog.happened(record(at));
    file.syncNow();
  });
  const repeated = perSecond(REPEATED, () => auditLog.denied(record(0)));
  return { written, durable, repeated, lineBytes };
}

function bare(path: string, bytes: number, count: number, sync: boolean): number {
  const fd = openSync(path, "w");
  try {
    const line = Buffer.from(`${"x".repeat(bytes - 1)}\n`);
    return perSecond(count, () => {
      writeSync(fd, line);
      if (sync) fdatasyncSync(fd);
    });
  } finally {
    closeSync(fd);
  }
}

function perSecond(count: number, act: (at: number) => void): number {
  const start = performance.now();
  for (let at = 0; at < count; at++) act(at);
  return count / ((performance.now() - start) / 1_000);
}
