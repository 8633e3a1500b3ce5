import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hashOfAudit } from "@bureau/kit/audit-chain";
import { sha256Hex } from "@bureau/os/digest";
import { silentLog } from "@bureau/os/testing/silent-log";
import type { AuditRecord, ChainedAudit } from "@bureau/schema/audit";
import { TurnedClock } from "../testing/turned-clock.ts";
import { AuditFile } from "./audit-file.ts";
import { AuditLog } from "./audit-log.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "audit-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const path = () => join(folder, "audit.jsonl");
const openFile = (bytesMax?: number): AuditFile =>
  new AuditFile(path(), { machine: "@m:s", log: silentLog, ...(bytesMax === undefined ? {} : { bytesMax }) });

const denial = (action: string, actor = "@a:s"): AuditRecord => ({
  decision: "deny",
  actor,
  action,
  target: "",
  reason: "no matching grant",
  enforcement_point: "proxy/matrix",
  machine: "@m:s",
});

/** Everything unsent, in order; marks it as sent. */
async function drain(file: AuditFile): Promise<ChainedAudit[]> {
  const events: ChainedAudit[] = [];
  for (;;) {
    const event = await file.next();
    if (event === undefined) return events;
    events.push(event);
    file.markSent(event);
  }
}

const shown = (events: readonly ChainedAudit[]): string[] =>
  events.map(({ sequence, action, count }) => `${sequence} ${action} ${count}`);

function expectChain(events: readonly ChainedAudit[], previous = ""): void {
  let last = previous;
  for (const event of events) {
    expect(event.previous).toBe(last);
    expect(event.hash).toBe(hashOfAudit(event, sha256Hex));
    last = event.hash;
  }
}

function openLog(file: AuditFile, clock = new TurnedClock()) {
  let changes = 0;
  const log = new AuditLog({ file, clock, log: silentLog, onChange: () => changes++ });
  return { log, clock, changes: () => changes };
}

const isFull = ({ isFull }: AuditFile): boolean => isFull;

describe("counting", () => {
  test("equal denials are one event with their count and times, and the disk does not grow with them", async () => {
    using file = openFile();
    const { log, clock } = openLog(file);
    log.denied(denial("matrix/join"));
    const size = statSync(path()).size;
    for (let n = 1; n < 1_000; n++) {
      await clock.turn(1);
      log.denied(denial("matrix/join"));
    }
    expect(statSync(path()).size).toBe(size);
    log.endCounts();
    expect(await drain(file)).toEqual([]);
    await clock.turn(2_000);
    expect(log.dueAt).toBe(clock.monotonic());
    log.endCounts();
    const events = await drain(file);
    expect(shown(events)).toEqual(["1 matrix/join 1000"]);
    const [event] = events;
    expect(Date.parse(event?.last_time ?? "") - Date.parse(event?.time ?? "")).toBe(999);
  });

  test("an act that is repeated without an end is one event a minute", async () => {
    using file = openFile();
    const { log, clock } = openLog(file);
    for (let second = 0; second < 600; second++) {
      log.denied(denial("matrix/join"));
      await clock.turn(1_000);
      log.endCounts();
    }
    log.endCounts(true);
    const events = await drain(file);
    expect(events.length).toBeLessThanOrEqual(11);
    expect(events.reduce((sum, { count }) => sum + count, 0)).toBe(600);
    expectChain(events);
  });

  test("an actor with many kinds of acts has the rest counted together", async () => {
    using file = openFile();
    const { log } = openLog(file);
    for (let n = 0; n < 5_000; n++) log.denied(denial(`act/${n}`));
    log.denied(denial("act/0", "@b:s"));
    log.endCounts(true);
    const events = await drain(file);
    expect(events).toHaveLength(22);
    expect(events.reduce((sum, { count }) => sum + count, 0)).toBe(5_001);
    expect(events.find(({ action }) => action === "**")).toMatchObject({ actor: "@a:s", count: 4_980 });
    expect(events.at(-1)).toMatchObject({ actor: "@b:s", count: 1 });
  });

  test("many actors at once have the rest counted together", async () => {
    using file = openFile();
    const { log } = openLog(file);
    for (let n = 0; n < 1_000; n++) log.denied(denial("act", `@${n}:s`));
    log.endCounts(true);
    const events = await drain(file);
    expect(events).toHaveLength(257);
    expect(events.reduce((sum, { count }) => sum + count, 0)).toBe(1_000);
    expect(events.find(({ actor }) => actor === "*")?.count).toBe(744);
  });
});

describe("a killed daemon", () => {
  test("loses no event and no count, and sends nothing twice", async () => {
    const before = openFile();
    const { log, clock } = openLog(before);
    for (const action of ["a", "b", "c"]) log.denied(denial(action));
    await clock.turn(2_000);
    log.endCounts();
    const first = await before.next();
    if (first === undefined) throw new Error("nothing to send");
    before.markSent(first);
    for (let n = 0; n < 7; n++) log.denied(denial("d"));
    // Nothing is closed: the next program finds the file as it is.
    using file = openFile();
    const { log: next } = openLog(file);
    next.denied(denial("d"));
    next.endCounts(true);
    const events = await drain(file);
    expect(shown(events)).toEqual(["2 b 1", "3 c 1", "4 d 8"]);
    expectChain(events, first.hash);
    before[Symbol.dispose]();
  });

  test("counts a batch once that a proxy gives again", async () => {
    const batch = (name: string) => ({ count: 5, first: "t", last: "t", batch: name });
    const before = openFile();
    const { log, clock } = openLog(before);
    log.denied(denial("a"), batch("00000000-1"));
    log.denied(denial("a"), batch("00000000-2"));
    log.denied(denial("b"), batch("00000000-2"));
    using file = openFile();
    const { log: next } = openLog(file, clock);
    for (const action of ["a", "b", "c"]) next.denied(denial(action), batch("00000000-2"));
    next.denied(denial("a"), batch("00000000-3"));
    next.endCounts(true);
    expect(shown(await drain(file))).toEqual(["1 a 15", "2 b 5", "3 c 5"]);
    before[Symbol.dispose]();
  });

  test("leaves at most a part of its last line, which is dropped", async () => {
    {
      using file = openFile();
      file.append(denial("a"), "t");
    }
    const whole = readFileSync(path(), "utf8");
    appendFileSync(path(), '{"event":{"decision":"deny","act');
    using file = openFile();
    expect(readFileSync(path(), "utf8")).toBe(whole);
    file.append(denial("b"), "t");
    expect(shown(await drain(file))).toEqual(["1 a 1", "2 b 1"]);
  });
});

test("a line that was damaged is left out, and the rest is sent", async () => {
  {
    using file = openFile();
    for (const action of ["a", "b", "c"]) file.append(denial(action), "t");
  }
  const lines = readFileSync(path(), "utf8").split("\n");
  writeFileSync(path(), [lines[0], lines[1], "{", ...lines.slice(3)].join("\n"));
  using file = openFile();
  expect(shown(await drain(file))).toEqual(["1 a 1", "3 c 1"]);
});

test("what was sent leaves the disk, and the chain continues", async () => {
  using file = openFile();
  const { log } = openLog(file);
  log.denied(denial("counted"));
  const sent: ChainedAudit[] = [];
  for (let round = 0; round < 20; round++) {
    for (let n = 0; n < 100; n++) file.append({ ...denial("act"), detail: "x".repeat(500) }, "t");
    sent.push(...(await drain(file)));
    expect(statSync(path()).size).toBeLessThan(1 << 20);
  }
  log.denied(denial("counted"));
  log.endCounts(true);
  using again = openFile();
  expect(again.head).toEqual(file.head);
  sent.push(...(await drain(again)));
  expect(sent).toHaveLength(2_001);
  expectChain(sent);
  expect(sent.at(-1)?.count).toBe(2);
});

test("while its file is full, sensitive acts are refused, and denials are counted for the next event", async () => {
  using file = openFile(20_000);
  const { log } = openLog(file);
  const allow: AuditRecord = { ...denial("interrupt"), decision: "allow" };
  for (let n = 0; !isFull(file); n++) log.denied(denial(`act/${n}`, `@${n}:s`));
  expect(() => log.allowed(allow)).toThrow(
    expect.objectContaining({ code: "unavailable", message: expect.stringContaining("is full") }),
  );
  expect(() => log.happened({ ...allow, decision: "grant_created" })).toThrow("is full");
  for (let n = 0; n < 3; n++) log.denied(denial("late"));
  expect(log.unrecorded).toBe(3);
  log.endCounts(true);
  await drain(file);
  expect(isFull(file)).toBe(false);
  log.denied(denial("again"));
  log.allowed(allow);
  expect(log.unrecorded).toBe(0);
  log.endCounts(true);
  expect((await drain(file)).map(({ action, reason, decision }) => [decision, action, reason])).toEqual([
    ["deny", "**", "3 denials could not be recorded: the audit log could not be written"],
    ["deny", "again", "no matching grant"],
    ["allow", "interrupt", "no matching grant"],
  ]);
});

test("a host that joined another fleet begins a new chain, and keeps the old log", async () => {
  {
    using file = openFile();
    file.append(denial("a"), "t");
  }
  const before = readFileSync(path(), "utf8");
  using file = new AuditFile(path(), { machine: "@other:s", log: silentLog });
  file.append(denial("b"), "t");
  expect(shown(await drain(file))).toEqual(["1 b 1"]);
  expect(readFileSync(`${path()}.before`, "utf8")).toBe(before);
});
