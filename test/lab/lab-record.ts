/**
 * The labs of this host: one file each, written by the owner process. `npm run lab`
 * lists, enters and ends them, and a later run removes labs without an owner.
 *
 * A lab's enclosure cleans up when its owner ends, even by a kill. Sweeping removes leftovers of a killed
 * enclosure.
 */
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { readIfPresent, writeAtomically } from "@bureau/os/durable-file";
import { waitUntilGone } from "@bureau/os/process-end";
import { isAlive, signalProcess } from "@bureau/os/process-table";
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";
import { removeCgroups } from "./cgroup.ts";

const recordFolder = "/run/bureau-lab";

const processId = v.object({ pid: v.number(), startTicks: v.number() });
const recordSchema = v.object({
  tag: v.pipe(v.string(), v.regex(/^[a-z0-9]+$/u)),
  /** `up`: kept by `npm run lab -- up`; `run`: of a test or a shell. */
  kind: v.picklist(["run", "up"]),
  /** True once everything asked for is up. */
  ready: v.boolean(),
  owner: processId,
  /** The enclosure's outermost process. */
  enclosure: processId,
  folder: v.string(),
  machines: v.array(v.object({ name: v.string(), address: v.string(), holder: v.optional(processId) })),
});
export type LabRecord = v.InferOutput<typeof recordSchema>;

/** Cleaning up takes an enclosure one or two seconds. */
const CLEARING_MS_MAX = 15_000;

const pathOf = (tag: string): string => join(recordFolder, `${tag}.json`);

export function writeRecord(record: LabRecord): void {
  mkdirSync(recordFolder, { recursive: true, mode: 0o700 });
  writeAtomically(pathOf(record.tag), JSON.stringify(record), 0o600);
}

export const removeRecord = (tag: string): void => rmSync(pathOf(tag), { force: true });

/** Every lab whose owner lives. */
export const livingLabs = (): LabRecord[] => readRecords().filter(({ owner }) => isAlive(owner));

/** Ends and removes leftovers of labs without an owner. */
export async function sweepLabs(): Promise<void> {
  const left = readRecords().filter(({ owner }) => !isAlive(owner));
  await Promise.all(left.map(sweep));
}

async function sweep(record: LabRecord): Promise<void> {
  if (!(await waitUntilGone(record.enclosure, CLEARING_MS_MAX, systemClock))) {
    signalProcess(record.enclosure, "SIGKILL");
    await waitUntilGone(record.enclosure, CLEARING_MS_MAX, systemClock);
  }
  rmSync(record.folder, { recursive: true, force: true });
  await removeCgroups(record.tag);
  removeRecord(record.tag);
}

function readRecords(): LabRecord[] {
  let names: string[];
  try {
    names = readdirSync(recordFolder);
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    const text = name.endsWith(".json") ? readIfPresent(join(recordFolder, name)) : undefined;
    return text === undefined ? [] : [parseJson(recordSchema, text, name)];
  });
}
