/**
 * The file that says a program is being replaced (wire facts, section 9.7): written before exec, read by the
 * version that starts next, which tells from it whether it is the new one or the one that was to be replaced. It speaks of one
 * boot of the host, so nothing waits for it to be on the disk: clients wait while it is written.
 */
import { readFileSync, rmSync } from "node:fs";
import { decodeCbor, encodeCbor } from "@bureau/kit/cbor";
import { parse, parseJson } from "@bureau/schema/parse";
import * as v from "valibot";
import { writeAtomically } from "./durable-file.ts";
import { type Layout, watchdogFile } from "./layout.ts";

/** Older ones say nothing about what starts now (wire facts, section 12.1). */
const RECORD_AGE_MS_MAX = 300_000;

const WatchdogRecordSchema = v.object({
  component: v.picklist(["daemon", "launcher"]),
  /** Host environments. */
  previous_binary: v.string(),
  new_binary: v.string(),
  /** Unix seconds. */
  timestamp: v.pipe(v.number(), v.integer()),
  request_id: v.string(),
  /** Which boot of the host it is from: what ended with the host was not at fault. */
  boot_id: v.string(),
  /** Set by the new version when it goes back by itself. */
  reason: v.optional(v.string()),
  /** What that reason blames: the homeserver may be away for every machine; a stop was asked for. */
  blames: v.optional(v.picklist(["program", "homeserver", "stop"])),
});
export type WatchdogRecord = v.InferOutput<typeof WatchdogRecordSchema>;
export type WatchedComponent = WatchdogRecord["component"];

export function writeWatchdogRecord(layout: Layout, record: WatchdogRecord): void {
  writeAtomically(watchdogFile(layout, record.component), encodeCbor(record), 0o600);
}

/** Undefined when there is none, it cannot be read, or it is older than {@link RECORD_AGE_MS_MAX}. */
export function readWatchdogRecord(
  layout: Layout,
  component: WatchedComponent,
  nowMs: number,
): WatchdogRecord | undefined {
  let record: WatchdogRecord;
  try {
    const file = watchdogFile(layout, component);
    record = parse(WatchdogRecordSchema, decodeCbor(readFileSync(file)), file);
  } catch {
    return undefined;
  }
  return nowMs - record.timestamp * 1_000 > RECORD_AGE_MS_MAX ? undefined : record;
}

export const clearWatchdogRecord = (layout: Layout, component: WatchedComponent): void =>
  rmSync(watchdogFile(layout, component), { force: true });

/** Where the version that goes back says why when it cannot write it down: the disk may be full. */
const WENT_BACK = "BUREAU_WENT_BACK";

const WentBackSchema = v.pick(WatchdogRecordSchema, ["request_id", "reason", "blames"]);

/** For {@link takeWentBack} of the version before, executed next. */
export const wentBackVariable = (
  why: Pick<WatchdogRecord, "request_id" | "reason" | "blames">,
): Readonly<Record<string, string>> => ({ [WENT_BACK]: JSON.stringify(why) });

/** `record` with what the version that went back could not write into it. Asked for a second time it is as it was. */
export function takeWentBack(
  record: WatchdogRecord | undefined,
  env: Record<string, string | undefined> = process.env,
): WatchdogRecord | undefined {
  const text = env[WENT_BACK];
  delete env[WENT_BACK];
  if (text === undefined || record === undefined) return record;
  const { request_id, ...why } = parseJson(WentBackSchema, text, WENT_BACK);
  return request_id === record.request_id ? { ...record, ...why } : record;
}

/** Which boot of the host this is. */
export function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "unknown";
  }
}
