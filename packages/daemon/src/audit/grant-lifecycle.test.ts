import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "@bureau/os/testing/silent-log";
import type { AuditRecord } from "@bureau/schema/audit";
import type { Grant } from "@bureau/schema/authorization";
import { AuthorizationIndex } from "@bureau/schema/authorization-index";
import { parseUserId } from "@bureau/schema/refs";
import { TurnedClock } from "../testing/turned-clock.ts";
import { AuditFile } from "./audit-file.ts";
import { AuditLog } from "./audit-log.ts";
import { GrantLifecycle } from "./grant-lifecycle.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "grants-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const user = parseUserId("@b/fleet/p/agent/a:s");

const noise: AuditRecord = {
  decision: "deny",
  actor: "@a:s",
  action: "observe",
  target: "",
  enforcement_point: "daemon/observe",
  machine: "@m:s",
};

const indexOf = (...grants: Grant[]) =>
  new AuthorizationIndex([{ name: "temporal", users: new Set([user]), policiesOf: () => [{ grants }] }]);

function open(clock: TurnedClock) {
  const file = new AuditFile(join(folder, "audit.jsonl"), { machine: "@m:s", log: silentLog });
  const auditLog = new AuditLog({ file, clock, log: silentLog, onChange: () => {} });
  const lifecycle = new GrantLifecycle({
    known: () => file.grants,
    happened: (record, step) => auditLog.happened({ ...record, machine: "@m:s" }, step),
    clock,
    log: silentLog,
  });
  return { file, lifecycle };
}

async function recorded(file: AuditFile): Promise<string[]> {
  const events: string[] = [];
  for (;;) {
    const event = await file.next();
    if (event === undefined) return events;
    events.push(`${event.decision} ${event.ticket} ${event.actor}`);
    file.markSent(event);
  }
}

test("records the beginning and the end of each grant once, also over restarts", async () => {
  const clock = new TurnedClock();
  const inMinutes = (minutes: number) => new Date(clock.now() + minutes * 60_000).toISOString();
  const short: Grant = {
    actions: ["observe"],
    ticket: "short",
    expires_at: inMinutes(5),
    granted_by: "@op:s",
  };
  const long: Grant = {
    actions: ["interrupt"],
    ticket: "long",
    expires_at: inMinutes(60),
    granted_by: "@op:s",
  };
  const past: Grant = {
    actions: ["fleet/**"],
    ticket: "past",
    expires_at: inMinutes(-1),
    granted_by: "@op:s",
  };
  {
    const { file, lifecycle } = open(clock);
    lifecycle.update(indexOf(short, long, past));
    lifecycle.update(indexOf(short, long, past));
    expect(await recorded(file)).toEqual(["grant_created short @op:s", "grant_created long @op:s"]);
    expect(lifecycle.dueAt).toBe(clock.monotonic() + 5 * 60_000);
    // Killed.
  }
  await clock.turn(5 * 60_000);
  const { file, lifecycle } = open(clock);
  lifecycle.expire();
  lifecycle.update(indexOf(short, long, past));
  expect(await recorded(file)).toEqual(["grant_expired short @op:s"]);
  lifecycle.update(indexOf(short));
  lifecycle.update(indexOf());
  expect(await recorded(file)).toEqual(["grant_revoked long @op:s"]);
  expect(lifecycle.dueAt).toBeUndefined();
  expect(open(clock).file.grants.size).toBe(0);
});

test("a grant that is changed is revoked, and another begins", async () => {
  const { file, lifecycle } = open(new TurnedClock());
  lifecycle.update(indexOf({ actions: ["observe"], ticket: "t", granted_by: "@op:s" }));
  lifecycle.update(indexOf({ actions: ["**"], ticket: "t", granted_by: "@op:s" }));
  expect(await recorded(file)).toEqual([
    "grant_created t @op:s",
    "grant_created t @op:s",
    "grant_revoked t @op:s",
  ]);
});

test("known grants stay known when the file is written again", async () => {
  const clock = new TurnedClock();
  const { file, lifecycle } = open(clock);
  const grant: Grant = { actions: ["observe"], ticket: "t", granted_by: "@op:s" };
  lifecycle.update(indexOf(grant));
  for (let n = 0; n < 1_000; n++) file.append({ ...noise, detail: "x".repeat(600) }, "t");
  await recorded(file);
  expect(file.bytes).toBeLessThan(300_000);
  const again = open(clock);
  again.lifecycle.update(indexOf(grant));
  expect(await recorded(again.file)).toEqual([]);
});

test("records no beginning of a grant whose end has no zone: it never counts", async () => {
  const { file, lifecycle } = open(new TurnedClock());
  using _file = file;
  lifecycle.update(indexOf({ actions: ["ticket/create"], ticket: "t", expires_at: "2099-01-01T00:00:00" }));
  expect(await recorded(file)).toEqual([]);
});
