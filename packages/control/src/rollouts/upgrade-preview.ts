/** What an upgrade of one machine would change and disturb, said before anything is asked for. Pure. */
import type { MachineVersion } from "@bureau/schema/events";
import { nameOf, runsAlready, type UpgradeTarget, versionName } from "./upgrade-target.ts";

export type ProgramChange = {
  readonly program: string;
  readonly from: string;
  readonly to: string;
  /** By what kind of restart, and what that disturbs. */
  readonly effect: string;
};

export type UpgradePreview = {
  readonly machine: string;
  readonly from?: string;
  readonly to: string;
  /** `unknown`: the machine has not said what it runs, or what is left to differ cannot be seen from here. */
  readonly changes: readonly ProgramChange[] | "unknown";
  /** Who runs there now. None of them is restarted by an upgrade. */
  readonly principals: readonly string[];
};

/** Programs that only the launcher starts: it takes them up by executing itself from where they lie. */
const forNewSandboxes =
  "the launcher takes it up in place, same process; agents that run keep theirs until they are restarted";

const effects: Readonly<Record<string, string>> = {
  "bureau-daemon": "replaced in place, same process; no agent is disturbed",
  "bureau-launcher": "replaced in place, same process; sandboxes and terminals go on",
  "bureau-proxy": forNewSandboxes,
  "bureau-log-relay": forNewSandboxes,
};

export function previewUpgrade(
  machine: string,
  target: UpgradeTarget,
  running: MachineVersion | undefined,
  principals: readonly string[],
): UpgradePreview {
  const from =
    running && `${versionName(running.version, running.programs)} (${running.host_environment_path})`;
  return {
    machine,
    ...(from === undefined ? {} : { from }),
    to: target.version === undefined ? target.path : `${nameOf(target)} (${target.path})`,
    changes: changesOf(target, running),
    principals,
  };
}

function changesOf(
  { path, programs }: UpgradeTarget,
  running: MachineVersion | undefined,
): readonly ProgramChange[] | "unknown" {
  if (running === undefined) return "unknown";
  const changes = Object.entries(running.programs).flatMap(([program, from]) => {
    const to = programs?.[program];
    if (to === undefined || to === from) return [];
    return [{ program, from, to, effect: effects[program] ?? "used when it is started next" }];
  });
  // At another path the runtime may differ though no program does.
  return changes.length > 0 || runsAlready({ path }, running) ? changes : "unknown";
}

const HASH_CHARS = 12;
const PROGRAM_WIDTH = "bureau-supervisor".length;

/** The preview in lines for a person. */
export function previewLines(preview: UpgradePreview): string[] {
  const { machine, from, to, changes, principals } = preview;
  const names = principals.length === 0 ? "nobody runs there" : `runs there: ${principals.join(", ")}`;
  const changed =
    changes === "unknown"
      ? ["  what changes is not known from here; the machine compares programs and runtime itself"]
      : changes.length === 0
        ? ["  nothing changes: it runs these programs already"]
        : changes.map(
            (change) =>
              `  ${change.program.padEnd(PROGRAM_WIDTH)} ${change.from.slice(0, HASH_CHARS)} → ${change.to.slice(0, HASH_CHARS)}  ${change.effect}`,
          );
  return [
    `${machine}: ${from ?? "an unknown version"} → ${to}`,
    ...changed,
    `  ${names}; nobody is restarted`,
  ];
}
