import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { parseMachine, parseServerName } from "@bureau/schema/refs";
import { hasExpired, newBootstrap } from "../../control/src/machines/bootstrap.ts";
import { bootstrapFileAt } from "./bootstrap-file.ts";

const machine = parseMachine("bureau/fleet/prod/machine/box");
const NOW = Date.parse("2026-06-01T12:00:00Z");
const at = (now: number) => ({ ...systemClock, now: () => now });
const make = (expiresInMs?: number) =>
  newBootstrap({
    homeserver: "http://hs",
    server: parseServerName("bureau.test"),
    machine,
    expiresInMs,
    clock: at(NOW),
  });

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "bbf-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test("is written for its owner alone, indented by two spaces, and read back", () => {
  const path = join(dir, "b.json");
  const made = make();
  bootstrapFileAt(path, machine).write(made);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(readFileSync(path, "utf8")).toContain('\n  "homeserver_url": "http://hs"');
  expect(bootstrapFileAt(path, machine).read()).toEqual(made);
  expect(bootstrapFileAt(join(dir, "none"), machine).read()).toBeUndefined();
});

test("each has its own password", () => {
  expect(make().password).not.toBe(make().password);
});

test("expires at its time, or never", () => {
  const made = make(3_600_000);
  expect(made.expires_at).toBe("2026-06-01T13:00:00Z");
  expect(hasExpired(made, at(NOW + 3_599_999))).toBe(false);
  expect(hasExpired(made, at(NOW + 3_600_000))).toBe(true);
  expect(hasExpired({ ...made, expires_at: "soon" }, at(NOW))).toBe(true);
  expect(hasExpired(make(), at(NOW + 1e12))).toBe(false);
});

test("refuses the file of another machine, and does not quote its content", () => {
  const path = join(dir, "b.json");
  for (const text of [
    "s3cret notes",
    '{"password":"s3cret"}',
    JSON.stringify({ ...make(), machine_name: "x" }),
  ]) {
    writeFileSync(path, text);
    let message = "";
    try {
      bootstrapFileAt(path, machine).read();
    } catch (error) {
      message = String(error);
    }
    expect(message).toContain(path);
    expect(message).not.toContain("s3cret");
  }
});

test("names a missing folder, with the flag that chooses another", () => {
  expect(() => bootstrapFileAt(join(dir, "no/b.json"), machine).write(make())).toThrow(
    "Cannot write the bootstrap file",
  );
});
