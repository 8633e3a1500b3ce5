/**
 * Records that a program is being replaced (wire facts, section 9.7). It is written before exec and read by the next
 * program, which learns from it whether it is the new build or the old one. The record is valid for one boot of the
 * host, so the write does not wait for the disk: clients wait meanwhile.
 */
import { readFileSync, rmSync } from "node:fs";
import { decodeCbor } from "@bureau/kit/cbor";
import { encodeCbor } from "@bureau/kit/encode-cbor";
import { parse, parseJson } from "@bureau/schema/parse";
import * as v from "valibot";
import { writeAtomically } from "./durable-file.ts";
import { type Layout, watchdogFile } from "./layout.ts";

/** Older records say nothing about the program that starts now (wire facts, section 12.1). */
const RECORD_AGE_MS_MAX = 300_000;

const WatchdogRecordSchema = v.object({
  component: v.picklist(["daemon", "launcher"]),
  /** Host environments. */
  previous_binary: v.string(),
  new_binary: v.string(),
  /** Unix seconds. */
  timestamp: v.pipe(v.number(), v.integer()),
  request_id: v.string(),
  /** The boot of the host that wrote it: a program that ended with the host was not at fault. */
  boot_id: v.string(),
  /** Set by the new build when it rolls back by itself. */
  reason: v.optional(v.string()),
  /** The cause named by the reason: the homeserver, which may be down for every machine, or a requested stop. */
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

/** Carries the reason of a build that rolls back and cannot write the record: the disk may be full. */
const WENT_BACK = "BUREAU_WENT_BACK";

const WentBackSchema = v.pick(WatchdogRecordSchema, ["request_id", "reason", "blames"]);

/** For {@link takeWentBack} of the previous build, which is executed next. */
export const wentBackVariable = (
  why: Pick<WatchdogRecord, "request_id" | "reason" | "blames">,
): Readonly<Record<string, string>> => ({ [WENT_BACK]: JSON.stringify(why) });

/** `record` with the reason that the rolled-back build could not write. A second call returns `record` unchanged. */
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

/** The id of the host's current boot. */
export function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "unknown";
  }
}
