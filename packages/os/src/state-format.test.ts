import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import { readBuild } from "./build.ts";
import {
  decodeState,
  encodeState,
  faultBetween,
  formatsIn,
  migrateStateFormat,
  type Version,
} from "./state-format.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "bureau-format-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const file = (text: string) => {
  const path = join(folder, "daemon-state.json");
  writeFileSync(path, text);
  return { kind: "completions", path } as const;
};
const contents = (): string[] =>
  readdirSync(folder)
    .sort()
    .map((name) => `${name}: ${readFileSync(join(folder, name), "utf8")}`);

test("reads back what it writes, with the format in the file", () => {
  const text = encodeState("completions", { completed: {} });
  expect(JSON.parse(text)).toEqual({ version: 1, completed: {} });
  expect(decodeState("completions", v.object({ completed: v.unknown() }), text, "it")).toEqual({
    completed: {},
  });
});

test("a folder that is already in its only format gets no stamp, and an unreadable file stays unchanged", () => {
  for (const text of ['{"version":1,"completed":{}}', "not JSON", '{"completed":{}}']) {
    const one = file(text);
    const before = contents();
    migrateStateFormat(folder, [one]);
    expect(contents()).toEqual(before);
  }
  expect(formatsIn(folder)).toEqual([1]);
});

test("a file of a newer format, or a stamp that lists one, stops the migration before any change", () => {
  const one = file('{"version":2,"completed":{}}');
  const old = join(folder, "upgrade-state.json");
  writeFileSync(old, '{"version":1}');
  const expectStop = (): void => {
    const before = contents();
    expect(() => migrateStateFormat(folder, [{ kind: "upgrade-state", path: old }, one])).toThrow(
      /in format [27], and this version of Bureau reads format 1/u,
    );
    expect(contents()).toEqual(before);
  };
  expectStop();
  expect(() => decodeState("completions", v.object({}), '{"version":2}', "it")).toThrow("format 2");
  file('{"version":1,"completed":{}}');
  writeFileSync(join(folder, "state-format.json"), '{"formats":[1,7]}');
  expectStop();
  writeFileSync(join(folder, "state-format.json"), "{}");
  expect(() => migrateStateFormat(folder, [])).toThrow("Cannot tell in which format");
});

const version = (reads: number[], writes: number): Version => ({
  path: `/env/${reads.join("-")}-writes-${writes}`,
  version: "0.1.0",
  state: { reads, writes },
});
const [r1, r2, r3, r4] = [version([1], 1), version([1, 2], 1), version([1, 2], 2), version([2, 3], 2)];

test("neighbouring formats upgrade and roll back; a build that skips one reports it", () => {
  for (const [a, b] of [
    [r1, r2],
    [r2, r3],
    [r3, r4],
  ] as const) {
    expect(faultBetween(a, b, [a.state.writes])).toBeUndefined();
    expect(faultBetween(b, a, [b.state.writes])).toBeUndefined();
  }
  expect(faultBetween(r1, r3, [1])).toMatch(
    /version 0.1.0 writes format 2 .* version 0.1.0 \("\/env\/1-writes-1"\), which runs, reads format 1: there would be no way back; upgrade first .* reads formats 1 and 2 and still writes format 1/u,
  );
  expect(faultBetween(r3, r1, [2])).toMatch(
    /reads format 1 of .* has written format 2; upgrade first .* reads formats 1 and 2/u,
  );
  expect(faultBetween(r2, r4, [1])).toContain("has written format 1");
});

test("a build whose manifest has no formats reads and writes format 1", () => {
  const manifest = { version: "0.1.0", runtime: "1.4.5", programs: {} };
  writeFileSync(join(folder, "build.json"), JSON.stringify(manifest));
  expect(readBuild(folder).state).toEqual({ reads: [1], writes: 1 });
});

test("the formats on disk count, not the format that the running build writes", () => {
  expect(faultBetween(r3, r4, [1, 2])).toContain("has written format 1");
});
