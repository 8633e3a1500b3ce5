/** Single decisions: state and effects for a given knowledge and observation. */
import { expect, test } from "bun:test";
import { firstBuild, goodBuilds } from "../testing/simulated-builds.ts";
import { type Answer, next, type Phase, type Seen, type Step, type Upgrades } from "./next.ts";
import { noUpgrades, type UpgradeState } from "./upgrade-state.ts";
import { upgradeTimes } from "./upgrade-times.ts";

const times = upgradeTimes("{}");
const [, two = firstBuild, launcherOnly = firstBuild] = goodBuilds;
const done: Answer = { kind: "done" };
const request = { request_id: "r1", path: two.path };
const confirmed = { path: firstBuild.path, version: firstBuild.version };

const seen = (change: Partial<Seen> = {}): Seen => ({
  answer: done,
  wanted: undefined,
  said: undefined,
  record: undefined,
  isOnline: true,
  isAway: false,
  isEchoed: true,
  isStopping: false,
  refused: undefined,
  hasEndedDaemon: false,
  heardAt: undefined,
  startedAt: 0,
  times,
  ...change,
});

const under = (
  phase: Phase,
  change: Partial<NonNullable<UpgradeState["current"]>> = {},
  build = firstBuild,
): Upgrades => ({
  disk: {
    ...noUpgrades,
    confirmed,
    current: {
      request,
      step: "launcher",
      started_at: 0,
      from: firstBuild.path,
      daemon_changes: true,
      sandboxes: ["agent/a"],
      ...change,
    },
  },
  build,
  phase,
});
const at = (monotonic: number) => ({ wall: 1_000_000 + monotonic, monotonic });
const kinds = ({ effects }: Step): string[] => effects.map(({ kind }) => kind);

test("a request is written before its build is fetched", () => {
  const idle: Upgrades = { disk: { ...noUpgrades, confirmed }, build: firstBuild, phase: { kind: "ready" } };
  const step = next(idle, seen({ wanted: request }), at(0));
  expect(kinds(step)).toEqual(["log", "save", "fetch"]);
  expect(step.state.disk.current).toMatchObject({ step: "prefetch", request, from: firstBuild.path });
  expect(kinds(next(idle, seen({ wanted: request, isOnline: false }), at(0)))).toEqual(["wait"]);
  const failed = { ...idle, disk: { ...idle.disk, failed: [{ request_id: "r1", content: "" }] } };
  expect(kinds(next(failed, seen({ wanted: request }), at(0)))).toEqual(["wait"]);
});

test("a build with the same content changes nothing; one with the same daemon keeps the daemon", () => {
  const check = under({ kind: "check" }, { step: "check", daemon_changes: false });
  const same = next(check, seen({ answer: { kind: "build", build: { ...firstBuild, path: "/b" } } }), at(0));
  expect([same.state.disk.confirmed, same.state.disk.history[0]?.outcome]).toEqual([confirmed, "succeeded"]);
  const count: Phase = { kind: "count", build: launcherOnly };
  const answer: Answer = { kind: "running", sandboxes: ["agent/b"] };
  const decided = next({ ...check, phase: count }, seen({ answer }), at(0));
  expect(decided.state.disk.current).toMatchObject({
    step: "launcher",
    daemon_changes: false,
    sandboxes: ["agent/b"],
  });
  expect(kinds(next(decided.state, seen(), at(0)))).toEqual(["pause"]);
});

test("a failed write refuses a request before anything is executed", () => {
  const answer: Answer = { kind: "failed", reason: "ENOSPC" };
  const step = next(under({ kind: "decided", build: two }, { step: "daemon" }), seen({ answer }), at(0));
  expect(step.state.disk.history[0]).toMatchObject({ outcome: "refused", reason: "ENOSPC" });
  expect(kinds(step)).toEqual(["log", "save"]);
});

test("the new launcher must know sandboxes that were started since the request began", () => {
  const paused = next(under({ kind: "pause" }), seen({ answer: { kind: "paused", isQuiet: true } }), at(0));
  expect(kinds(paused)).toEqual(["list-running"]);
  const answer: Answer = { kind: "running", sandboxes: ["agent/b"] };
  const step = next(paused.state, seen({ answer }), at(0));
  expect(step.state.disk.current?.sandboxes).toEqual(["agent/a", "agent/b"]);
  expect(kinds(step)).toEqual(["save", "watch", "change-launcher"]);
});

test("a new daemon has its full time to be in sync, also when the host's clock is set", () => {
  const prove = under({ kind: "prove" }, { step: "daemon" }, two);
  const late = seen({ answer: { kind: "launcher", fault: undefined }, isEchoed: false });
  const set = { wall: 9e12, monotonic: times.proof };
  expect(kinds(next(prove, late, set))).toEqual(["sleep", "check-launcher"]);
  const step = next(prove, late, at(times.proof + 1));
  expect(kinds(step)).toEqual(["end-hung-launcher", "log", "write-record"]);
  expect(step.state.phase).toMatchObject({ kind: "go-back", to: firstBuild.path });
});

test("the reason travels in the environment when the record cannot be written", () => {
  const failure = { reason: "it is late", blames: "homeserver" } as const;
  const phase: Phase = { kind: "go-back", failure, to: firstBuild.path };
  const answer: Answer = { kind: "failed", reason: "ENOSPC" };
  expect(next(under(phase), seen({ answer }), at(0)).effects.at(-1)).toEqual({
    kind: "replace-by-previous",
    path: firstBuild.path,
    told: failure,
  });
  expect(next(under(phase), seen(), at(0)).effects).toEqual([
    { kind: "replace-by-previous", path: firstBuild.path, told: undefined },
  ]);
});

test("a daemon on trial that learns that its machine was revoked rolls back at once", () => {
  const step = next(under({ kind: "soak", until: 9 }), seen({ refused: "M_UNKNOWN_TOKEN" }), at(0));
  expect(step.state.phase).toMatchObject({
    kind: "go-back",
    failure: { reason: "the homeserver refused it: M_UNKNOWN_TOKEN", blames: "homeserver" },
  });
});

test("an unreachable homeserver is a fault of the build only if the old daemon reaches it at once", () => {
  const judge = under({ kind: "judge", reason: "not in sync", until: times.judge });
  const back = (change: Partial<Seen>, ms: number) => next(judge, seen(change), at(ms)).state.phase;
  expect(back({}, 100)).toMatchObject({ back: { kind: "rolled-back", reason: "not in sync" } });
  expect(back({ isAway: true, isOnline: false }, 100)).toMatchObject({
    back: { kind: "again", counts: false },
  });
  expect(back({}, 20_000)).toMatchObject({ back: { kind: "again", counts: true } });
  expect(back({ isOnline: false }, 100)).toMatchObject({ kind: "judge" });
});

test("a daemon that must stop leaves the request to the next one", () => {
  const phases: readonly Phase[] = [
    { kind: "fetch" },
    { kind: "prove" },
    { kind: "pause" },
    { kind: "change-launcher" },
    { kind: "soak", until: 0 },
  ];
  for (const phase of phases) {
    const step = next(under(phase), seen({ isStopping: true }), at(0));
    expect([step.end, step.effects]).toEqual([{}, []]);
    expect(step.state.disk.current).toBeDefined();
  }
});
