import { expect, test } from "bun:test";
import type { WatchdogRecord } from "@bureau/os/watchdog-record";
import { CUT_OFF_MAX, decideAtStart, ENDED, type Start } from "./decide.ts";
import {
  type CurrentUpgrade,
  cutOff,
  finished,
  isFinished,
  noUpgrades,
  recalled,
  type UpgradeState,
} from "./upgrade-state.ts";

const [OLD, NEW, BOOT] = ["/env/old", "/env/new", "boot-1"];

const record = (change: Partial<WatchdogRecord> = {}): WatchdogRecord => ({
  component: "daemon",
  previous_binary: OLD,
  new_binary: NEW,
  timestamp: 1,
  request_id: "r1",
  boot_id: BOOT,
  ...change,
});

const under = (step: CurrentUpgrade["step"], change: Partial<CurrentUpgrade> = {}): UpgradeState => ({
  ...noUpgrades,
  confirmed: { path: OLD, version: "1" },
  current: {
    request: { request_id: "r1", path: NEW },
    step,
    started_at: 1_000,
    from: OLD,
    version: "2",
    daemon_changes: true,
    sandboxes: ["agent/a"],
    ...change,
  },
});

/** All that an upgrade writes, in order: the state, the record, and the target of the boot link. */
const writes: readonly {
  readonly what: string;
  readonly state: UpgradeState;
  readonly record?: WatchdogRecord;
  readonly link: string;
  /** The build that boots from the link, and the one that runs if it was executed in place. */
  readonly booted: Start["kind"];
  readonly executed?: Start["kind"];
}[] = [
  {
    what: "nothing",
    state: { ...noUpgrades, confirmed: { path: OLD, version: "1" } },
    link: OLD,
    booted: "idle",
  },
  { what: "the request", state: under("prefetch"), link: OLD, booted: "again" },
  { what: "the fetch", state: under("check"), link: OLD, booted: "again" },
  { what: "the daemon's step", state: under("daemon"), link: OLD, booted: "again", executed: "prove" },
  {
    what: "the record",
    state: under("daemon"),
    record: record(),
    link: OLD,
    booted: "rolled-back",
    executed: "prove",
  },
  {
    what: "the launcher's step",
    state: under("launcher"),
    record: record(),
    link: OLD,
    booted: "rolled-back",
    executed: "launcher",
  },
  {
    what: "the proof",
    state: under("confirm"),
    record: record(),
    link: OLD,
    booted: "rolled-back",
    executed: "confirm",
  },
  { what: "the move of the link", state: under("confirm"), record: record(), link: NEW, booted: "confirm" },
  {
    what: "the end",
    state: finished(under("confirm"), { outcome: "succeeded" }, 2_000),
    record: record(),
    link: NEW,
    booted: "idle",
  },
  {
    what: "the removal of the record",
    state: finished(under("confirm"), { outcome: "succeeded" }, 2_000),
    link: NEW,
    booted: "idle",
  },
];

test.each([...writes])("cut off after $what, the next daemon decides correctly", (cut) => {
  expect(decideAtStart(cut.state, cut.record, cut.link, BOOT).kind).toBe(cut.booted);
  if (cut.executed !== undefined)
    expect(decideAtStart(cut.state, cut.record, NEW, BOOT).kind).toBe(cut.executed);
});

test("reports the new daemon's own reason; the cause in it decides the next step", () => {
  const by = (blames: "program" | "homeserver" | "stop", reason = "because") =>
    decideAtStart(under("daemon"), record({ blames, reason }), OLD, BOOT);
  expect(by("program")).toEqual({ kind: "rolled-back", reason: "because" });
  expect(by("homeserver")).toEqual({ kind: "judge", reason: "because" });
  expect(by("stop")).toEqual({ kind: "again", counts: false });
  expect(decideAtStart(under("daemon"), record(), OLD, BOOT)).toEqual({ kind: "rolled-back", reason: ENDED });
});

test("a host that went down, or the record of another request, is no fault of the new build", () => {
  expect(decideAtStart(under("daemon"), record(), OLD, "boot-2").kind).toBe("again");
  expect(decideAtStart(under("daemon"), record({ request_id: "r0" }), OLD, BOOT).kind).toBe("again");
});

test("a third build, started by hand, ends the request", () => {
  expect(decideAtStart(under("launcher"), record(), "/env/third", BOOT).kind).toBe("rolled-back");
});

test("an unchanged daemon that restarts continues with the launcher", () => {
  const state = under("launcher", { daemon_changes: false });
  expect(decideAtStart(state, undefined, OLD, BOOT).kind).toBe("launcher");
});

test("a failed request is finished, and no other is", () => {
  const failed = finished(under("daemon"), { outcome: "rolled-back", reason: "no", content: "c" }, 5_000);
  expect(isFinished(failed, "r1")).toBe(true);
  expect(isFinished(failed, "r2")).toBe(false);
  expect(failed.confirmed?.path).toBe(OLD);
  expect(failed.history[0]).toMatchObject({ outcome: "rolled-back", reason: "no", duration_ms: 4_000 });
  const good = finished(under("confirm"), { outcome: "succeeded" }, 5_000);
  expect([good.confirmed?.path, good.previous]).toEqual([NEW, OLD]);
});

test("a build that worked runs again when it is requested after another one, also with the same request id", () => {
  const first = finished(under("confirm"), { outcome: "succeeded" }, 5_000);
  expect(isFinished(first, "r1")).toBe(true);
  const request = { request_id: "r2", path: "/env/third" };
  const only = ({ current }: UpgradeState) => (current === undefined ? {} : { current });
  const second = finished(
    { ...first, ...only(under("confirm", { request })) },
    { outcome: "succeeded" },
    6_000,
  );
  expect(["r1", "r2"].map((id) => isFinished(second, id))).toEqual([false, true]);
  const third = finished({ ...second, ...only(under("confirm")) }, { outcome: "rolled-back" }, 7_000);
  expect(["r1", "r2"].map((id) => isFinished(third, id))).toEqual([true, true]);
});

test("counts each cut-off, unless a stop was requested", () => {
  let state = under("daemon");
  for (let count = 1; count <= CUT_OFF_MAX; count++) {
    state = { ...cutOff(state, true), ...(count < CUT_OFF_MAX ? { current: under("daemon").current } : {}) };
    expect(state.cut_off).toEqual({ request_id: "r1", count });
  }
  expect(cutOff(under("daemon"), false).cut_off?.count).toBe(0);
});

test("restores a failure that only the room has; never a success or a request under way", () => {
  const entry = (request_id: string, outcome: "succeeded" | "refused") => ({
    request_id,
    outcome,
    host_environment_path: NEW,
    finished_at: "2026-01-01T00:00:00Z",
    duration_ms: 1,
  });
  const said = { history: [entry("r1", "refused"), entry("r0", "refused"), entry("r-1", "succeeded")] };
  const state = recalled(under("daemon"), said);
  expect(["r1", "r0", "r-1"].map((id) => isFinished(state, id))).toEqual([false, true, false]);
  expect(state.history).toHaveLength(1);
  expect(recalled(state, said)).toBe(state);
});

test("rolls back a launcher under which an unchanged daemon starts again and again", () => {
  const start = (resumed?: number) =>
    decideAtStart(
      under("launcher", { daemon_changes: false, ...(resumed === undefined ? {} : { resumed }) }),
      undefined,
      OLD,
      BOOT,
    );
  expect(start()).toEqual({ kind: "launcher" });
  expect(start(CUT_OFF_MAX - 1)).toEqual({ kind: "launcher" });
  expect(start(CUT_OFF_MAX)).toMatchObject({
    kind: "rolled-back",
    reason: expect.stringContaining("3 times"),
  });
});
