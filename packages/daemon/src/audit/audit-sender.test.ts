import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MatrixError } from "@bureau/matrix/matrix-error";
import { silentLog } from "@bureau/os/testing/silent-log";
import type { AuditRecord } from "@bureau/schema/audit";
import { type EventId, parseRoomId, parseUserId } from "@bureau/schema/refs";
import { TurnedClock } from "../testing/turned-clock.ts";
import { AuditFile } from "./audit-file.ts";
import { AuditSender } from "./audit-sender.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "audit-sender-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const userId = parseUserId("@m:s");
const room = parseRoomId("!r:s");
const openFile = () => new AuditFile(join(folder, "audit.jsonl"), { machine: "@m:s", log: silentLog });
const record = (action: string): AuditRecord => ({
  decision: "deny",
  actor: "@a:s",
  action,
  target: "",
  enforcement_point: "daemon/observe",
  machine: userId,
});

/** A room that keeps one event for each transaction. `fail` is asked before each send. */
class Room {
  readonly events = new Map<string, Record<string, unknown>>();
  readonly asked: string[] = [];
  fail: (attempt: number) => Error | undefined = () => undefined;
  #attempts = 0;

  readonly session = {
    userId,
    sendEvent: async (
      _room: string,
      type: string,
      content: unknown,
      { txnId = "" } = {},
    ): Promise<EventId> => {
      this.asked.push(type);
      const error = this.fail(++this.#attempts);
      if (error !== undefined) throw error;
      this.events.set(txnId, content as Record<string, unknown>);
      return `$${this.events.size}` as EventId;
    },
    messages: async () => {
      this.asked.push("messages");
      return { chunk: [...this.events.values()].slice(-1).map((content) => ({ content })) };
    },
  };

  get actions(): unknown[] {
    return [...this.events.values()].map(({ action }) => action);
  }
}

const away = new MatrixError("unavailable", "bad gateway", { status: 502 });
const refusal = new MatrixError("forbidden", "no power", { status: 403, errcode: "M_FORBIDDEN" });

async function sendAll(file: AuditFile, there: Room, turns = 50): Promise<void> {
  const clock = new TurnedClock();
  const stop = new AbortController();
  const sender = new AuditSender({
    file,
    session: there.session,
    clock,
    log: silentLog,
    random: () => 1,
  });
  const running = sender.run(room, stop.signal);
  for (let turn = 0; turn < turns && file.hasUnsent; turn++) {
    await clock.turn(30_000);
    await Bun.sleep(1);
  }
  stop.abort();
  await clock.turn(1);
  await running;
}

test("sends in order, and again after what passes, with the same transaction", async () => {
  using file = openFile();
  for (const action of ["a", "b", "c"]) file.append(record(action), "t");
  const there = new Room();
  there.fail = (attempt) => (attempt % 2 === 1 ? away : undefined);
  await sendAll(file, there);
  expect(there.actions).toEqual(["a", "b", "c"]);
  expect(file.hasUnsent).toBe(false);
});

test("keeps what the homeserver refuses, and sends it when the levels are repaired", async () => {
  using file = openFile();
  file.append(record("a"), "t");
  const there = new Room();
  there.fail = (attempt) => (attempt < 3 ? refusal : undefined);
  await sendAll(file, there, 5);
  expect(there.actions).toEqual([]);
  await sendAll(file, there);
  expect(there.actions).toEqual(["a"]);
});

test("an event that arrived before the daemon was killed is not sent again", async () => {
  const there = new Room();
  {
    using file = openFile();
    for (const action of ["a", "b", "c"]) file.append(record(action), "t");
    for (const _ of ["a", "b"]) {
      const event = await file.next();
      if (event === undefined) throw new Error("nothing to send");
      // The homeserver forgot the transaction, as it does with a session.
      there.events.set(`forgotten ${event.sequence}`, event);
      // Killed before it noted that "b" was sent.
      if (event.action === "a") file.markSent(event);
    }
  }
  using file = openFile();
  await sendAll(file, there);
  expect(there.actions).toEqual(["a", "b", "c"]);
});

test("asks the room for nothing when nothing waits at the start", async () => {
  using file = openFile();
  const there = new Room();
  await sendAll(file, there);
  expect(there.asked).toEqual([]);
});
