/**
 * The launcher's record of a sandbox, in the sandbox's folder, so that the next launcher can adopt it. The launcher writes
 * it atomically before it creates anything else, and after every change. An unreadable record counts as `creating`.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readIfPresent, writeAtomically, writeDurably } from "@bureau/os/durable-file";
import { fleetRunDir, type Layout, sandboxPaths } from "@bureau/os/layout";
import { decodeState, encodeState, isTooNew, migrateStateFormat } from "@bureau/os/state-format";
import {
  SandboxConfinementSchema,
  SandboxDigestsSchema,
  SandboxExitSchema,
  type SandboxStatus,
} from "@bureau/schema/launcher-ipc";
import { ref } from "@bureau/schema/parse";
import { type FleetLocalpart, type PrincipalName, parsePrincipalName } from "@bureau/schema/refs";
import * as v from "valibot";

const integer = v.pipe(v.number(), v.integer());
const ProcessIdSchema = v.object({ pid: integer, startTicks: integer });

/** The processes of a sandbox, outermost first. */
const SandboxProcessesSchema = v.object({
  /** The pane's shell, which writes the exit code. */
  shell: ProcessIdSchema,
  /** bubblewrap outside. */
  bwrap: v.optional(ProcessIdSchema),
  /** Pid 1 inside: when it dies, everything inside does. */
  init: v.optional(ProcessIdSchema),
  /** The program itself; absent when it ended before the launcher found it. */
  program: v.optional(ProcessIdSchema),
});
export type SandboxProcesses = v.InferOutput<typeof SandboxProcessesSchema>;

const SandboxRecordSchema = v.object({
  /** Process IDs are invalid after a reboot, but a run folder on disk survives it. */
  boot: v.string(),
  principal: ref(parsePrincipalName),
  phase: v.picklist(["creating", "running", "exited"]),
  digests: SandboxDigestsSchema,
  /** Milliseconds since the epoch. */
  started_at: integer,
  /** The build that the sandbox has mounted, links resolved. Older records lack it. */
  programs_dir: v.optional(v.string()),
  proxy: v.optional(ProcessIdSchema),
  processes: v.optional(SandboxProcessesSchema),
  exit: v.optional(SandboxExitSchema),
  /** As it was when the program began. */
  confinement: v.optional(SandboxConfinementSchema),
});
export type SandboxRecord = v.InferOutput<typeof SandboxRecordSchema>;

/** True when the sandbox was created completely. */
export const isWhole = (record: SandboxRecord | undefined): record is SandboxRecord =>
  record !== undefined && record.phase !== "creating";

/** Only an exit is of use after a reboot, so only that is synced to disk. */
export function writeRecord(path: string, record: SandboxRecord): void {
  const write = record.phase === "exited" ? writeDurably : writeAtomically;
  write(path, encodeState("sandbox-record", record), 0o600);
}

/** A sandbox folder on disk; `record` is undefined when it is missing or unreadable. */
export type FoundSandbox = {
  readonly principal: PrincipalName;
  readonly record: SandboxRecord | undefined;
};

/** Every sandbox folder of the fleet, and the entries beside them that are no sandbox. */
export function findRecords(
  layout: Layout,
  fleet: FleetLocalpart,
): { sandboxes: FoundSandbox[]; strays: string[] } {
  const folder = join(fleetRunDir(layout, fleet), "sandbox");
  const sandboxes: FoundSandbox[] = [];
  const strays: string[] = [];
  for (const entry of existsSync(folder) ? readdirSync(folder) : []) {
    const principal = principalOfFolder(entry);
    if (principal === undefined) strays.push(join(folder, entry));
    else
      sandboxes.push({
        principal,
        record: readRecord(sandboxPaths(layout, fleet, principal).record, principal),
      });
  }
  return { sandboxes, strays };
}

function principalOfFolder(entry: string): PrincipalName | undefined {
  try {
    return parsePrincipalName(entry.replaceAll("+", "/"));
  } catch {
    return undefined;
  }
}

function readRecord(path: string, principal: PrincipalName): SandboxRecord | undefined {
  try {
    const text = readIfPresent(path);
    if (text === undefined) return undefined;
    const record = decodeState("sandbox-record", SandboxRecordSchema, text, "sandbox record");
    if (record.principal !== principal) return undefined;
    return record.boot === bootId() ? record : afterReboot(record);
  } catch (error) {
    // The caller clears a sandbox with an invalid record, but must keep one that a newer build wrote.
    if (isTooNew(error)) throw error;
    return undefined;
  }
}

/** Migrates every record to this build's format. @throws BureauError when one has an unknown format */
export function migrateRecords(layout: Layout, fleet: FleetLocalpart): void {
  const folder = join(fleetRunDir(layout, fleet), "sandbox");
  const principals = (existsSync(folder) ? readdirSync(folder) : []).flatMap(
    (entry) => principalOfFolder(entry) ?? [],
  );
  const paths = principals.map((principal) => sandboxPaths(layout, fleet, principal).record);
  migrateStateFormat(
    layout.runDir,
    paths.map((path) => ({ kind: "sandbox-record", path })),
  );
}

/** From an earlier boot, keeps only an exit that was not fetched yet. */
function afterReboot({
  proxy: _proxy,
  processes: _processes,
  ...record
}: SandboxRecord): SandboxRecord | undefined {
  return record.phase === "exited" ? { ...record, boot: bootId() } : undefined;
}

/** The ID of this boot of the machine. */
export const bootId = (): string => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();

/** A sandbox's status for the daemon. */
export function statusOf(record: SandboxRecord, proxyAlive: boolean): SandboxStatus {
  const program = record.processes?.program;
  return {
    principal: record.principal,
    digests: record.digests,
    state: record.phase === "exited" ? "exited" : "running",
    ...(record.exit === undefined ? {} : { exit: record.exit }),
    ...(program === undefined || record.phase === "exited" ? {} : { pid: program.pid }),
    proxy:
      proxyAlive && record.proxy !== undefined
        ? { state: "running", pid: record.proxy.pid }
        : { state: "dead" },
    started_at: record.started_at,
    ...(record.programs_dir === undefined ? {} : { programs_dir: record.programs_dir }),
    ...(record.confinement === undefined ? {} : { confinement: record.confinement }),
  };
}
