import { expect, setDefaultTimeout, test } from "bun:test";
import type { LauncherAction } from "@bureau/schema/launcher-ipc";
import { Simulator } from "./simulator.ts";

setDefaultTimeout(180_000);
const EVENTS = 2_000;
const SEEDS = 6;

/** `BUREAU_SEED` repeats one run. */
const given = process.env["BUREAU_SEED"];
const seeds =
  given === undefined
    ? Array.from({ length: SEEDS }, () => Math.floor(Math.random() * 2 ** 32))
    : [Number(given)];

/** Counted over all runs: a single run may roll nothing back. */
let rejections = 0;
const upgrades = new Map<string, number>();

test.each(seeds)(
  "over thousands of random events a machine breaks no rule and reaches its desired state (seed %p)",
  async (seed) => {
    const simulator = new Simulator(seed);
    await simulator.run(EVENTS);
    if (simulator.violations.length > 0)
      throw new Error(
        [`BUREAU_SEED=${seed}`, ...simulator.violations, "after:", ...simulator.history.slice(-60)].join(
          "\n",
        ),
      );
    // A run in which a daemon did nothing would prove nothing.
    const asked = (action: LauncherAction): number => simulator.asked.get(action) ?? 0;
    expect(asked("create-sandbox")).toBeGreaterThan(50);
    expect(asked("destroy-sandbox")).toBeGreaterThan(50);
    expect(asked("restart-proxy")).toBeGreaterThan(3);
    expect(asked("update-payload")).toBeGreaterThan(1);
    expect(simulator.resolutions).toBeGreaterThan(EVENTS / 4);
    rejections += simulator.rejections;
    for (const [outcome, count] of simulator.upgrades.outcomes)
      upgrades.set(outcome, (upgrades.get(outcome) ?? 0) + count);
  },
);

test.if(given === undefined)("these runs rolled configurations back, too", () => {
  expect(rejections).toBeGreaterThan(SEEDS / 2);
});

test.if(given === undefined)("these runs confirmed, rolled back and refused builds", () => {
  for (const outcome of ["succeeded", "rolled-back", "refused"])
    expect(upgrades.get(outcome) ?? 0, outcome).toBeGreaterThan(SEEDS);
});
