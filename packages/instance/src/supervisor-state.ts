/** The processes that a supervisor started, kept in a file so that the next supervisor adopts or ends them. */
import { readIfPresent, writeDurably } from "@bureau/os/durable-file";
import type { InstanceLayout } from "@bureau/os/layout";
import type { ProcessId } from "@bureau/os/process-table";
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";
import { type ProgramName, programNames } from "./supervisor-wire.ts";

const StateSchema = v.object({
  programs: v.record(v.string(), v.object({ pid: v.number(), startTicks: v.number() })),
});

/** The processes of the last supervisor, whether they still run or not. */
export function readRecorded(layout: InstanceLayout): Map<ProgramName, ProcessId> {
  const recorded = new Map<ProgramName, ProcessId>();
  const text = readIfPresent(layout.supervisorStateFile);
  if (text === undefined) return recorded;
  const { programs } = parseJson(StateSchema, text, layout.supervisorStateFile);
  for (const name of programNames) {
    const process = programs[name];
    if (process !== undefined) recorded.set(name, process);
  }
  return recorded;
}

export function recordRunning(
  layout: InstanceLayout,
  programs: ReadonlyMap<ProgramName, { readonly process: ProcessId | undefined }>,
): void {
  const running = [...programs].flatMap(([name, { process }]) =>
    process === undefined ? [] : [[name, process]],
  );
  writeDurably(layout.supervisorStateFile, JSON.stringify({ programs: Object.fromEntries(running) }), 0o600);
}
