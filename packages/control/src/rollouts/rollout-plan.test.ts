/**
 * Rollouts in random orders: machines that succeed, fail, stop answering or go offline; controllers that end between
 * any two steps; two controllers at once with stale views. `BUREAU_SEED` repeats one run.
 */
import { describe, expect, test } from "bun:test";
import type { BureauVersion, MachineVersion } from "@bureau/schema/events";
import { type MachineLocalpart, parseMachine, parseUserId } from "@bureau/schema/refs";
import type { Rollout } from "@bureau/schema/rollout";
import {
  asHalted,
  asMachinesSay,
  type FleetFacts,
  failUnasked,
  isOver,
  isRollingBack,
  isUnderWay,
  type MachineFacts,
  mergeRollouts,
  type Publication,
  planRollout,
  resumeRollout,
} from "./rollout-plan.ts";

const programs = (word: string): Record<string, string> => ({
  "bureau-daemon": `${word}-d`,
  "bureau-launcher": `${word}-l`,
  "bureau-proxy": `${word}-p`,
});
const OLD = "/nix/store/old";
const NEW = "/nix/store/new";
const ID = "r1";
const START = Date.parse("2026-01-01T00:00:00Z");

function rolloutOf(count: number, options: Partial<Rollout> = {}): Rollout {
  return {
    host_environment_path: NEW,
    programs: programs("new"),
    bureau_version: {},
    selector: "all",
    canary: 1,
    batch: 2,
    halt_on_error: true,
    rollback_on_error: false,
    wait_offline: false,
    timeout_seconds: 300,
    requested_by: parseUserId("@a:b"),
    started_at: "2026-01-01T00:00:00Z",
    state: "running",
    generation: 1,
    machines: Array.from({ length: count }, (_, index) => ({
      machine: parseMachine(`bureau/fleet/f/machine/m${index}`),
      state: "pending",
      attempt: 1,
    })),
    ...options,
  };
}

type Fate = "good" | "bad" | "silent";

const desiredOf = (requestId: string | undefined, path = NEW): BureauVersion => ({
  daemon_store_path: "",
  launcher_store_path: "",
  proxy_store_path: "",
  host_environment_path: path,
  request_id: requestId,
});

/** Simulates the machines: each starts a published request once, and ends it as its fate says. */
class Fleet {
  readonly versions = new Map<MachineLocalpart, MachineVersion>();
  readonly desired = new Map<MachineLocalpart, BureauVersion>();
  readonly begun: string[] = [];
  readonly offline = new Set<MachineLocalpart>();
  constructor(
    machines: readonly MachineLocalpart[],
    readonly fateOf: (machine: MachineLocalpart, requestId: string) => Fate,
  ) {
    for (const machine of machines)
      this.versions.set(machine, {
        host_environment_path: OLD,
        version: "1",
        programs: programs("old"),
        state: "running",
        history: [],
      });
  }

  publish({ machine, requestId, backTo }: Publication): void {
    if (this.desired.get(machine)?.request_id === requestId) return;
    this.begun.push(requestId);
    this.desired.set(machine, desiredOf(requestId, backTo));
    const version = this.versions.get(machine);
    if (version === undefined) return;
    this.versions.set(machine, { ...version, state: "upgrading", request_id: requestId, step: "daemon" });
  }

  /** The machine finishes its request. */
  end(machine: MachineLocalpart): void {
    const version = this.versions.get(machine);
    const desired = this.desired.get(machine);
    const requestId = desired?.request_id;
    if (version?.state !== "upgrading" || requestId === undefined) return;
    const fate = this.fateOf(machine, requestId);
    if (fate === "silent") return;
    const path = desired?.host_environment_path ?? "";
    const entry = {
      request_id: requestId,
      host_environment_path: path,
      finished_at: "",
      duration_ms: 1,
      outcome: fate === "good" ? ("succeeded" as const) : ("rolled-back" as const),
    };
    const runs =
      fate === "good"
        ? { host_environment_path: path, programs: programs(path === NEW ? "new" : "old") }
        : {};
    this.versions.set(machine, {
      ...version,
      ...runs,
      state: fate === "good" ? "running" : "failed",
      history: [entry, ...version.history],
    });
  }

  facts(): FleetFacts {
    return new Map(
      [...this.versions].map(([machine, version]): [MachineLocalpart, MachineFacts] => [
        machine,
        { online: !this.offline.has(machine), seen: { version, desired: this.desired.get(machine) } },
      ]),
    );
  }
}

/** Runs until it is over; all machines answer between turns. */
function runThrough(rollout: Rollout, fleet: Fleet, from = START): Rollout {
  let now = from;
  let current = rollout;
  for (let turn = 0; turn < 500 && !isOver(current); turn++) {
    const plan = planRollout(ID, current, fleet.facts(), now);
    current = plan.rollout;
    for (const publication of plan.publish) fleet.publish(publication);
    for (const { machine } of current.machines) fleet.end(machine);
    now += 60_000;
  }
  return current;
}
const statesOf = (rollout: Rollout): string[] => rollout.machines.map(({ state }) => state);
const fleetFor = (rollout: Rollout, fate: (index: number, request: string) => Fate = () => "good"): Fleet =>
  new Fleet(
    rollout.machines.map(({ machine }) => machine),
    (machine, request) => fate(Number(/\d+$/u.exec(machine)?.[0]), request),
  );

describe("a rollout", () => {
  test("requests the canary alone, then one batch after another", () => {
    const rollout = rolloutOf(6);
    const fleet = fleetFor(rollout);
    const sizes: number[] = [];
    let current = rollout;
    while (!isOver(current)) {
      const plan = planRollout(ID, current, fleet.facts(), START);
      current = plan.rollout;
      if (plan.publish.length > 0) sizes.push(plan.publish.length);
      for (const publication of plan.publish) fleet.publish(publication);
      for (const { machine } of current.machines) fleet.end(machine);
    }
    expect(sizes).toEqual([1, 2, 2, 1]);
    expect(current.state).toBe("done");
  });

  test("stops at a failed canary, even with keep-going", () => {
    const rollout = rolloutOf(4, { halt_on_error: false });
    const ended = runThrough(
      rollout,
      fleetFor(rollout, (index) => (index === 0 ? "bad" : "good")),
    );
    expect(ended.state).toBe("halted");
    expect(statesOf(ended)).toEqual(["failed", "pending", "pending", "pending"]);
  });

  test("keeps going after the canary with keep-going", () => {
    const rollout = rolloutOf(4, { halt_on_error: false });
    const ended = runThrough(
      rollout,
      fleetFor(rollout, (index) => (index === 1 ? "bad" : "good")),
    );
    expect(ended.state).toBe("done");
    expect(statesOf(ended)).toEqual(["succeeded", "failed", "succeeded", "succeeded"]);
  });

  test("lets the others of a batch finish before it stops", () => {
    const rollout = rolloutOf(5);
    const ended = runThrough(
      rollout,
      fleetFor(rollout, (index) => (index === 1 ? "bad" : "good")),
    );
    expect(ended.state).toBe("halted");
    expect(statesOf(ended)).toEqual(["succeeded", "failed", "succeeded", "pending", "pending"]);
  });

  test("rolls every machine back when one fails, if requested", () => {
    const rollout = rolloutOf(5, { rollback_on_error: true });
    const fleet = fleetFor(rollout, (index, request) =>
      index === 2 && !request.endsWith("/rollback") ? "bad" : "good",
    );
    const ended = runThrough(rollout, fleet);
    expect(ended.state).toBe("rolled-back");
    expect(statesOf(ended)).toEqual(["rolled-back", "rolled-back", "rolled-back", "pending", "pending"]);
    for (const version of fleet.versions.values()) expect(version.host_environment_path).toBe(OLD);
  });

  test("fails a machine that does not answer in time, and rolls it back as well", () => {
    const rollout = rolloutOf(2, { rollback_on_error: true });
    const fleet = fleetFor(rollout, (_, request) => (request.endsWith("/rollback") ? "good" : "silent"));
    const ended = runThrough(rollout, fleet);
    expect(statesOf(ended)).toEqual(["rolled-back", "pending"]);
    expect(ended.machines[0]?.reason).toBe("no answer within 300 s");
  });

  test("skips a machine for which another operator has made a later request", () => {
    const rollout = rolloutOf(1);
    const fleet = fleetFor(rollout, () => "silent");
    const plan = planRollout(ID, rollout, fleet.facts(), START);
    for (const publication of plan.publish) fleet.publish(publication);
    const [one] = rollout.machines;
    if (one === undefined) throw new Error("no machine");
    fleet.publish({ machine: one.machine, requestId: "another" });
    const next = planRollout(ID, plan.rollout, fleet.facts(), START);
    expect(next.publish).toEqual([]);
    expect(next.rollout.machines[0]?.reason).toContain("requested another build");
  });

  test("skips machines that are offline, and the next ones are its canaries", () => {
    const rollout = rolloutOf(3);
    const fleet = fleetFor(rollout);
    for (const { machine } of rollout.machines.slice(0, 1)) fleet.offline.add(machine);
    expect(statesOf(runThrough(rollout, fleet))).toEqual(["skipped", "succeeded", "succeeded"]);
  });

  test("waits for offline machines, if requested", () => {
    const rollout = rolloutOf(2, { wait_offline: true });
    const fleet = fleetFor(rollout);
    for (const { machine } of rollout.machines.slice(1)) fleet.offline.add(machine);
    const waiting = runThrough(rollout, fleet);
    expect(waiting.state).toBe("running");
    expect(statesOf(waiting)).toEqual(["succeeded", "pending"]);
    fleet.offline.clear();
    expect(runThrough(waiting, fleet).state).toBe("done");
  });

  test("sends no request to a machine that already runs the build, and counts it as a canary", () => {
    const rollout = rolloutOf(1);
    const fleet = fleetFor(rollout);
    for (const [machine, version] of fleet.versions)
      fleet.versions.set(machine, {
        ...version,
        host_environment_path: NEW,
        programs: programs("new"),
      });
    expect(runThrough(rollout, fleet).state).toBe("done");
    expect(fleet.begun).toEqual([]);
  });

  test("sends a request to a machine that runs these programs from another path: the runtime may differ", () => {
    const rollout = rolloutOf(1);
    const fleet = fleetFor(rollout);
    for (const [machine, version] of fleet.versions)
      fleet.versions.set(machine, { ...version, programs: programs("new") });
    const asked = planRollout(ID, rollout, fleet.facts(), START);
    expect(statesOf(asked.rollout)).toEqual(["upgrading"]);
    expect(asked.publish).toHaveLength(1);
    // The request is sent and not started: the running build does not count as the answer.
    const facts = new Map(
      [...fleet.facts()].map(([machine, fact]): [MachineLocalpart, MachineFacts] => [
        machine,
        { ...fact, seen: { version: fact.seen?.version, desired: desiredOf(asked.publish[0]?.requestId) } },
      ]),
    );
    expect(statesOf(planRollout(ID, asked.rollout, facts, START).rollout)).toEqual(["upgrading"]);
    const ended = runThrough(asked.rollout, fleet);
    expect(ended.state).toBe("done");
    expect(ended.machines[0]?.reason).toBeUndefined();
    expect(fleet.begun).toHaveLength(1);
  });

  test("finishes upgrades under way when it is halted, and retries only failed ones when it is resumed", () => {
    const rollout = rolloutOf(3);
    let isRepaired = false;
    const fleet = fleetFor(rollout, (index) => (index === 1 && !isRepaired ? "bad" : "good"));
    const halted = runThrough(rollout, fleet);
    expect(halted.state).toBe("halted");
    isRepaired = true;
    const ended = runThrough(resumeRollout(halted), fleet);
    expect(ended.state).toBe("done");
    expect(fleet.begun).toHaveLength(4);
    expect(ended.machines.map(({ attempt }) => attempt)).toEqual([1, 2, 1]);
    const [begun] = [planRollout(ID, rolloutOf(3), fleetFor(rollout).facts(), START).rollout];
    expect(begun && isOver(asHalted(begun, START))).toBe(false);
  });
});

/** Facts in which the state of one machine is unreadable. */
const withFault = (facts: FleetFacts, machine: MachineLocalpart | undefined): FleetFacts =>
  new Map(
    [...facts].map(([name, fact]) => [name, name === machine ? { online: true, fault: "no room" } : fact]),
  );

describe("a machine whose state is unreadable", () => {
  const names = rolloutOf(3).machines.map(({ machine }) => machine);

  test("is skipped, and the others are upgraded", () => {
    const rollout = rolloutOf(3);
    const fleet = fleetFor(rollout);
    let current = rollout;
    for (let turn = 0; turn < 20 && !isOver(current); turn++) {
      const plan = planRollout(ID, current, withFault(fleet.facts(), names[0]), START);
      current = plan.rollout;
      for (const publication of plan.publish) fleet.publish(publication);
      for (const { machine } of current.machines) fleet.end(machine);
    }
    expect(statesOf(current)).toEqual(["skipped", "succeeded", "succeeded"]);
    expect(current.machines[0]?.reason).toBe("no room");
  });

  test("fails when it was upgrading or rolling back, which then ends", () => {
    const rollout = rolloutOf(2, { rollback_on_error: true });
    const fleet = fleetFor(rollout);
    const begun = planRollout(ID, rollout, fleet.facts(), START);
    const failed = planRollout(ID, begun.rollout, withFault(fleet.facts(), names[0]), START).rollout;
    expect(failed.machines[0]).toMatchObject({ state: "failed", reason: "no room" });
    const ended = planRollout(ID, failed, withFault(fleet.facts(), names[0]), START).rollout;
    expect(ended.state).toBe("rolled-back");
    expect(statesOf(ended)).toEqual(["failed", "pending"]);
  });

  test("fails when its request could not be sent", () => {
    const [name = parseMachine("")] = names;
    const begun = planRollout(ID, rolloutOf(2), fleetFor(rolloutOf(2)).facts(), START).rollout;
    const failed = failUnasked(begun, new Map([[name, "forbidden"]]), START);
    expect(failed.machines[0]).toMatchObject({ state: "failed", reason: "forbidden" });
    expect(statesOf(failed)).toEqual(["failed", "pending"]);
  });
});

test("a halted rollout shows the results of its last machines, without a controller", () => {
  const rollout = rolloutOf(2, { canary: 2 });
  const fleet = fleetFor(rollout, (index) => (index === 0 ? "good" : "bad"));
  const plan = planRollout(ID, rollout, fleet.facts(), START);
  for (const publication of plan.publish) fleet.publish(publication);
  const halted = asHalted(plan.rollout, START);
  expect(statesOf(halted)).toEqual(["upgrading", "upgrading"]);
  for (const { machine } of halted.machines) fleet.end(machine);
  const shown = asMachinesSay(halted, fleet.facts(), START);
  expect([shown.state, ...statesOf(shown)]).toEqual(["halted", "succeeded", "failed"]);
  const unasked = rolloutOf(1);
  const begun = planRollout(ID, unasked, fleetFor(unasked, () => "good").facts(), START).rollout;
  const none = fleetFor(unasked, () => "good").facts();
  expect(statesOf(asMachinesSay(asHalted(begun, START), none, START))).toEqual(["pending"]);
});

describe("a rollout that is resumed after a halt", () => {
  test("continues to roll back, if it was rolling back", () => {
    const rollout = rolloutOf(3, { rollback_on_error: true });
    const fleet = fleetFor(rollout, (index, request) =>
      index === 1 && !request.endsWith("/rollback") ? "bad" : "good",
    );
    let current = rollout;
    while (current.state === "running") {
      const plan = planRollout(ID, current, fleet.facts(), START);
      current = plan.rollout;
      for (const publication of plan.publish) fleet.publish(publication);
      if (current.state === "running") for (const { machine } of current.machines) fleet.end(machine);
    }
    const halted = runThrough(asHalted(current, START), fleet);
    expect(halted.state).toBe("halted");
    const resumed = resumeRollout(halted);
    expect(resumed).toMatchObject({ state: "rolling-back", generation: 2 });
    const before = fleet.begun.filter((id) => !id.endsWith("/rollback")).length;
    const ended = runThrough(resumed, fleet);
    expect(ended.state).toBe("rolled-back");
    for (const version of fleet.versions.values()) expect(version.host_environment_path).toBe(OLD);
    expect(fleet.begun.filter((id) => !id.endsWith("/rollback"))).toHaveLength(before);
  });

  test("rolls back a machine that succeeded after its timeout, retried or not", () => {
    for (const isSeen of [true, false]) {
      const rollout = rolloutOf(3, { canary: 2, batch: 1 });
      let isLate = false;
      const fleet = fleetFor(rollout, (index, request) => {
        if (request.endsWith("/rollback")) return "good";
        if (index === 0) return isLate ? "good" : "silent";
        return index === 2 ? "bad" : "good";
      });
      const halted = runThrough(rollout, fleet);
      expect(halted.machines[0]).toMatchObject({ state: "failed", reason: "no answer within 300 s" });
      isLate = true;
      const [late] = halted.machines;
      if (late === undefined) throw new Error("no machine");
      fleet.end(late.machine);
      expect(fleet.versions.get(late.machine)?.host_environment_path).toBe(NEW);
      const resumed = { ...resumeRollout(halted), rollback_on_error: true };
      const ended = isSeen
        ? runThrough(resumed, fleet)
        : runThrough({ ...resumed, state: "rolling-back" as const }, fleet);
      expect(ended.state).toBe("rolled-back");
      for (const version of fleet.versions.values()) expect(version.host_environment_path).toBe(OLD);
    }
  });
});

/** A small generator with a seed (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** One random rollout, with two controllers that may end anywhere. Returns the broken rules. */
function simulate(seed: number): string[] {
  const random = seeded(seed);
  const upTo = (most: number): number => Math.floor(random() * most);
  const start = rolloutOf(1 + upTo(9), {
    canary: 1 + upTo(3),
    batch: 1 + upTo(4),
    halt_on_error: random() < 0.6,
    rollback_on_error: random() < 0.3,
    wait_offline: random() < 0.3,
  });
  const fates = start.machines.map((): Fate => (random() < 0.2 ? "bad" : random() < 0.1 ? "silent" : "good"));
  const fleet = fleetFor(start, (index, request) => {
    // A silent machine may finish late, also after its timeout.
    if (request.endsWith("/rollback") || (fates[index] === "silent" && random() < 0.05)) return "good";
    return fates[index] ?? "good";
  });
  const faults: string[] = [];
  let stored = start;
  let now = START;
  let [halts, hasTurned] = [0, false];
  const check = (publications: readonly Publication[]): void => {
    const succeeded = stored.machines.filter(({ state }) => state === "succeeded").length;
    const forward = publications.filter(({ backTo }) => backTo === undefined);
    const underWay = stored.machines.filter(({ state }) => state === "upgrading").length;
    if (forward.length === 0) return;
    if (hasTurned) faults.push("went forward after it had turned back");
    if (succeeded < start.canary && underWay > start.canary - succeeded)
      faults.push("asked beyond the canaries");
    if (underWay > Math.max(start.batch, start.canary)) faults.push("more than a batch under way");
    if (start.halt_on_error && stored.generation === 1)
      for (const { machine } of forward)
        if (stored.machines.some((one) => one.state === "failed" && one.machine !== machine))
          if (!fleet.begun.some((id) => id.includes(machine)) && underWay === forward.length)
            faults.push("began something after a failure");
  };
  for (let step = 0; step < 600 && (!isOver(stored) || stored.state === "halted"); step++) {
    now += upTo(40_000);
    // A person halts and resumes it at any moment; or it halts by itself, and a person resumes it.
    if (!isOver(stored) && halts < 2 && random() < 0.03) {
      stored = asHalted(stored, now);
      halts++;
    } else if (stored.state === "halted" && random() < 0.1) {
      if (isOver(stored) && halts >= 2 && !isRollingBack(stored)) break;
      stored = resumeRollout(stored);
      halts++;
    }
    hasTurned ||= isRollingBack(stored);
    for (const { machine } of stored.machines) {
      if (random() < 0.4) fleet.end(machine);
      if (random() < 0.02) fleet.offline.add(machine);
      if (random() < 0.2) fleet.offline.delete(machine);
    }
    const mine = planRollout(ID, stored, fleet.facts(), now);
    // A second controller has read the same rollout at another moment.
    if (random() < 0.3) fleet.end(stored.machines[upTo(stored.machines.length)]?.machine ?? parseMachine(""));
    const theirs = random() < 0.3 ? planRollout(ID, stored, fleet.facts(), now + 5) : undefined;
    // It ends before it writes,
    if (random() < 0.2) continue;
    stored = theirs === undefined ? mine.rollout : mergeRollouts(mine.rollout, theirs.rollout);
    // or before it has sent every request.
    const asked = random() < 0.2 ? mine.publish.slice(0, upTo(mine.publish.length + 1)) : mine.publish;
    if (theirs === undefined || JSON.stringify(stored) === JSON.stringify(mine.rollout)) {
      check(asked);
      for (const publication of asked) fleet.publish(publication);
    }
  }
  if (!isOver(stored) && !start.wait_offline) faults.push(`not over: ${stored.state} ${statesOf(stored)}`);
  if (new Set(fleet.begun).size !== fleet.begun.length) faults.push("a machine was asked twice");
  if (stored.state === "rolled-back")
    for (const [machine, version] of fleet.versions) {
      // A machine that is silent for too long has not rolled back, and is not reported so.
      const isSaid = stored.machines.some((one) => one.machine === machine && one.state === "failed");
      if (version.host_environment_path !== OLD && !isSaid) faults.push(`${machine} did not go back`);
    }
  if (isOver(stored) && stored.machines.some(isUnderWay)) faults.push("over with machines under way");
  return faults;
}

test("in every order of events: canaries come first, a failure halts it, no machine gets a request twice", () => {
  const given = process.env["BUREAU_SEED"];
  const first = given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);
  const runs = given === undefined ? 2_000 : 1;
  for (let seed = first; seed < first + runs; seed++) {
    const faults = simulate(seed);
    if (faults.length > 0) throw new Error([`BUREAU_SEED=${seed}`, ...faults].join("\n"));
  }
});

test("two controllers merge their writes to the same result", () => {
  const rollout = rolloutOf(3);
  const fleet = fleetFor(rollout);
  const begun = planRollout(ID, rollout, fleet.facts(), START).rollout;
  const halted = asHalted(rollout, START);
  const merged = mergeRollouts(begun, halted);
  expect(merged).toEqual(mergeRollouts(halted, begun));
  expect(merged.state).toBe("halted");
  expect(statesOf(merged)).toEqual(["upgrading", "pending", "pending"]);
  expect(mergeRollouts(halted, resumeRollout(halted)).state).toBe("running");
});
