import { expect, test } from "bun:test";
import { hidesProcesses } from "./mounts.ts";

const proc = (options: string): string =>
  `22 28 0:20 / /proc rw,nosuid shared:5 - proc proc rw\n23 28 0:21 / /proc rw,nosuid - proc proc ${options}\n24 23 0:22 / /proc/sys ro - proc proc rw`;

test.each([
  ["rw", false],
  ["rw,hidepid=0", false],
  ["rw,hidepid=off", false],
  ["rw,hidepid=1", true],
  ["rw,hidepid=noaccess", true],
  ["rw,hidepid=invisible", true],
  ["rw,hidepid=invisible,gid=7", true],
  ["rw,gid=20,hidepid=invisible", false],
  ["rw,gid=20,hidepid=ptraceable", true],
])("/proc mounted with %s hides guarded programs from ordinary users: %p", (options, hidden) => {
  expect(hidesProcesses(proc(options), { uid: 1000, groups: [10, 20] })).toBe(hidden);
  expect(hidesProcesses(proc(options), { uid: 0, groups: [] })).toBe(false);
});

test("treats a host with unreadable mounts as an ordinary one", () => {
  expect(hidesProcesses("", { uid: 1000, groups: [] })).toBe(false);
});
