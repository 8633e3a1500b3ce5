/**
 * The power fails, or the daemon is killed, at every single write of an upgrade or a rollback, of good and of bad
 * builds, with every state that a file system may leave. One of the two builds always boots, and finishes the request.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decodeCbor } from "@bureau/kit/cbor";
import { encodeCbor } from "@bureau/kit/encode-cbor";
import { silentLog } from "@bureau/os/testing/silent-log";
import { type Change, cutPower, recordChanges, survivals } from "./testing/recorded-disk.ts";
import { type Flaw, makeEnvironment, UpgradeWorld } from "./testing/upgrade-world.ts";
import { readUpgradeState } from "./upgrade-state.ts";

setDefaultTimeout(120_000);
/** Thousands of syncs of a simulated disk: in memory they cost nothing. */
const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "bp-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let one: string;
let two: string;
beforeAll(() => {
  one = makeEnvironment(join(folder, "one"), "1");
  two = makeEnvironment(join(folder, "two"), "2");
});

/** A machine that runs `from`; it was upgraded to it unless that is the first build. */
async function machineThatRuns(root: string, from: string): Promise<void> {
  UpgradeWorld.prepare(root, one);
  if (from === two) await new UpgradeWorld(root, { request_id: "r0", path: two }, "none").runToTheEnd();
}

/** Changes the record so that another boot of the host wrote it. */
function rebooted(root: string): void {
  const file = join(root, "state", "daemon-watchdog.cbor");
  try {
    writeFileSync(
      file,
      encodeCbor({ ...(decodeCbor(readFileSync(file)) as object), boot_id: "another boot" }),
    );
  } catch {
    // The record is missing or unreadable.
  }
}

let count = 0;
/** The machine when everything stops after the first `length` of `changes`. */
function cutOff(template: string, changes: readonly Change[], survives: (typeof survivals)[number]): string {
  const root = join(folder, `cut-${++count}`);
  cpSync(template, root, { recursive: true, verbatimSymlinks: true });
  cutPower(root, changes, survives);
  return root;
}

const cases: readonly { readonly flaw: Flaw; readonly goes: "up" | "down" }[] = [
  { flaw: "none", goes: "up" },
  { flaw: "none", goes: "down" },
  { flaw: "exits", goes: "up" },
  { flaw: "deaf", goes: "up" },
  { flaw: "forgets", goes: "up" },
  { flaw: "forgets", goes: "down" },
];

test.each([...cases])(
  "$goes, flaw: $flaw: finishes the request after a cut at any write",
  async ({ flaw, goes }) => {
    const [from, to] = goes === "up" ? [one, two] : [two, one];
    const request = { request_id: "r1", path: to };
    const template = join(folder, `template-${goes}-${flaw}`);
    await machineThatRuns(template, from);
    const root = join(folder, `recorded-${goes}-${flaw}`);
    cpSync(template, root, { recursive: true, verbatimSymlinks: true });
    const { changes } = await recorded(root, request, flaw);
    const seen = new Set<string>();
    for (let length = 0; length <= changes.length; length++)
      for (const survives of survivals)
        for (const how of ["the power goes", "the daemon is killed"] as const) {
          // A killed program's writes survive.
          if (how === "the daemon is killed" && survives !== "everything") continue;
          const at = cutOff(template, changes.slice(0, length), survives);
          if (how === "the power goes") rebooted(at);
          const world = new UpgradeWorld(at, request, flaw);
          const where = `${how} after ${length} of ${changes.length} writes, of which ${survives} survives`;
          expect([one, two], where).toContain(world.booted);
          const bootedNew = world.booted === to;
          await world.runToTheEnd();
          const { history, confirmed, current } = readUpgradeState(
            join(at, "state/upgrade-state.json"),
            silentLog,
          );
          const outcomes = history
            .filter(({ request_id }) => request_id === "r1")
            .map(({ outcome }) => outcome);
          seen.add(outcomes.join());
          expect(current, where).toBeUndefined();
          expect(outcomes, where).toHaveLength(1);
          // The boot link, the state, the running build and the published build agree.
          const ends = outcomes[0] === "succeeded" ? to : from;
          expect([world.booted, confirmed?.path, world.launcherFrom], where).toEqual([ends, ends, ends]);
          if (bootedNew) expect(outcomes, where).toEqual(["succeeded"]);
          // A host that went down is no fault of the build: the request is tried again.
          const power = how === "the power goes" && flaw === "none";
          if (power) expect(outcomes, where).toEqual(["succeeded"]);
          if (flaw !== "none") expect(outcomes, where).not.toContain("succeeded");
          rmSync(at, { recursive: true });
        }
    console.log(`${goes}, flaw: ${flaw}: ${changes.length} writes; ends: ${[...seen].join("; ")}`);
    expect(changes.length).toBeGreaterThan(20);
  },
);

async function recorded(
  root: string,
  request: UpgradeWorld["request"],
  flaw: Flaw,
): Promise<{ readonly changes: readonly Change[] }> {
  using recording = recordChanges(root);
  await new UpgradeWorld(root, request, flaw).runToTheEnd();
  return { changes: recording.changes };
}
