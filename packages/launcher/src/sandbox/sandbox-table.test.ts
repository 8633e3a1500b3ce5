import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { encodeCbor } from "@bureau/kit/encode-cbor";
import { type Layout, sandboxPaths } from "@bureau/os/layout";
import { identify, isAlive, type ProcessId } from "@bureau/os/process-table";
import { launcherResponses } from "@bureau/schema/launcher-ipc";
import { parse } from "@bureau/schema/parse";
import { parseFleet, parsePrincipalName } from "@bureau/schema/refs";
import { bootId, type SandboxRecord } from "./record.ts";
import { SandboxTable } from "./sandbox-table.ts";

const FLEET = parseFleet("bureau/fleet/test");
const FIRST = 1_000;
let root: string;
let layout: Layout;
let table: SandboxTable;

const nameOf = (index: number) => parsePrincipalName(`agent/a${index}`);
function put(index: number, change: Partial<SandboxRecord> = {}): void {
  const principal = nameOf(index);
  mkdirSync(dirname(sandboxPaths(layout, FLEET, principal).record), { recursive: true });
  const digests = { spec: "s", payload: "p" };
  table.put({ boot: bootId(), principal, phase: "running", digests, started_at: 1, ...change });
}
const namesOf = (list: ReturnType<SandboxTable["list"]>): string[] =>
  list.sandboxes.map(({ principal }) => principal);

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "st-"));
  layout = { runDir: root, stateDir: root, workspaceRoot: root, cacheRoot: root };
  table = new SandboxTable(layout, FLEET, FIRST);
});
afterEach(() => rmSync(root, { recursive: true }));

test("after one change among many sandboxes the list has one entry, and its size does not grow with their number", () => {
  const bytesOfOneChange = (count: number): number => {
    for (let index = 0; index < count; index++) put(index);
    const { revision } = table.list();
    put(7, { digests: { spec: "s", payload: "p2" } });
    const list = table.list(revision);
    expect(list.since).toBe(revision);
    expect(namesOf(list)).toEqual(["agent/a7"]);
    expect(list.removed).toEqual([]);
    return encodeCbor(list).length;
  };
  const few = bytesOfOneChange(10);
  expect(bytesOfOneChange(100)).toBe(few);
});

test("a list of changes names each changed sandbox once, with its last state, and each that is gone", () => {
  put(1);
  put(2);
  const { revision } = table.list();
  put(3);
  put(3, { phase: "exited", exit: { code: 0, description: "exited with 0", at: 1 } });
  table.remove(nameOf(1));
  const list = table.list(revision);
  expect(list.sandboxes.map(({ principal, state }) => `${principal} ${state}`)).toEqual(["agent/a3 exited"]);
  expect(list.removed).toEqual([nameOf(1)]);
  expect(list.revision).toBe(revision + 3);
  expect(table.list(list.revision)).toEqual({
    revision: list.revision,
    since: list.revision,
    sandboxes: [],
    removed: [],
    creating: [],
  });
});

test("a sandbox that is created again after its removal is removed, and then a change", () => {
  put(1);
  const { revision } = table.list();
  table.remove(nameOf(1));
  put(1, { phase: "creating" });
  const during = table.list(revision);
  expect(during).toMatchObject({ sandboxes: [], removed: ["agent/a1"], creating: ["agent/a1"] });
  put(1);
  expect(table.list(revision)).toMatchObject({ removed: [], creating: [] });
  expect(namesOf(table.list(during.revision))).toEqual(["agent/a1"]);
});

test("the list is whole for a revision that this launcher does not know, and for one that is too old", () => {
  put(1);
  const { revision } = table.list();
  for (const since of [FIRST - 1, revision + 1, 0, -5]) {
    const list = table.list(since);
    expect(list.since).toBeUndefined();
    expect(list.removed).toBeUndefined();
    expect(namesOf(list)).toEqual(["agent/a1"]);
  }
  for (let index = 0; index < 10_000; index++) put(1);
  expect(table.list(revision).since).toBeUndefined();
  expect(table.list(table.list().revision - 4_096).since).toBeDefined();
});

test("a thousand ended sandboxes with long outputs fit into one answer, and none is missing", () => {
  const layers = Object.fromEntries(Array.from({ length: 11 }, (_, index) => [`a_layer_${index}`, true]));
  const output = "ä".repeat(8 * 1024);
  for (let index = 0; index < 1_000; index++)
    table.adopt({
      boot: bootId(),
      principal: nameOf(index),
      phase: "exited",
      digests: { spec: "s".repeat(64), payload: "p".repeat(64) },
      started_at: 1_796_000_000_000,
      programs_dir: "/var/lib/bureau/builds/0123456789abcdef",
      exit: { code: 1, description: "exited with 1", at: 1_796_000_000_000, output },
      confinement: { layers: layers as never, exceptions: [] },
    });
  const list = table.list();
  expect(list.sandboxes).toHaveLength(1_000);
  expect(encodeCbor({ ok: true, data: list }).length).toBeLessThan(1024 * 1024);
  expect(list.sandboxes.filter(({ exit }) => exit?.output === output).length).toBeGreaterThan(10);
});

describe("proxies", () => {
  const left: ProcessId[] = [];
  afterEach(() => {
    for (const { pid } of left.splice(0).filter(isAlive)) process.kill(pid, "SIGKILL");
    table[Symbol.dispose]();
  });
  /** As many sandboxes, each with a proxy that is no child of this process. */
  async function putWithProxies(count: number): Promise<void> {
    const script = `for i in $(seq ${count}); do sleep 1000 </dev/null >/dev/null 2>&1 & echo $!; done`;
    const text = await new Response(Bun.spawn(["/bin/sh", "-c", script]).stdout).text();
    left.push(
      ...text
        .trim()
        .split("\n")
        .flatMap((pid) => identify(Number(pid)) ?? []),
    );
    for (const [index, proxy] of left.entries()) put(index, { proxy });
  }

  test("their lists read nothing from /proc, for any number of sandboxes", async () => {
    await putWithProxies(100);
    const readCalls = (): number =>
      Number(/^syscr: (\d+)$/m.exec(readFileSync("/proc/self/io", "utf8"))?.[1] ?? Number.NaN);
    const before = readCalls();
    for (let round = 0; round < 10; round++)
      expect(table.list().sandboxes.filter(({ proxy }) => proxy.state === "running")).toHaveLength(100);
    expect(readCalls() - before).toBeLessThan(20);
  });

  test("the end of one is a change of its sandbox alone; a new one of the same sandbox is another", async () => {
    await putWithProxies(3);
    const { revision } = table.list();
    const [, killed, other] = left;
    process.kill(killed?.pid ?? 0, "SIGKILL");
    await table.waitForChange(revision, 10_000, new AbortController().signal);
    const dead = table.list(revision);
    expect(dead.sandboxes.map(({ principal, proxy }) => `${principal} ${proxy.state}`)).toEqual([
      "agent/a1 dead",
    ]);
    put(1, { proxy: other as ProcessId });
    const again = table.list(dead.revision);
    expect(again.sandboxes.map(({ proxy }) => proxy.pid)).toEqual([other?.pid]);
  });
});

test("an earlier list with the changes applied is the whole list", () => {
  const seed = Number(process.env["BUREAU_SEED"] ?? Math.floor(Math.random() * 2 ** 32));
  console.log(`BUREAU_SEED=${seed}`);
  let state = seed >>> 0;
  const below = (limit: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  let held = new Map(table.list().sandboxes.map((status) => [status.principal, status]));
  let { revision } = table.list();
  for (let round = 0; round < 200; round++) {
    for (let count = below(4); count > 0; count--) {
      const index = below(6);
      if (below(3) === 0) table.remove(nameOf(index));
      else put(index, { started_at: round, phase: below(4) === 0 ? "creating" : "running" });
    }
    const list = parse(launcherResponses.wait, table.list(revision), "list");
    if (list.since !== revision) held = new Map();
    for (const status of list.sandboxes) held.set(status.principal, status);
    for (const principal of list.removed ?? []) held.delete(principal);
    revision = list.revision;
    const whole = table.list().sandboxes;
    expect([...held.values()].sort((a, b) => (a.principal < b.principal ? -1 : 1))).toEqual(whole);
  }
});
