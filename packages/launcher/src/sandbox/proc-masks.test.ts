import { expect, test } from "bun:test";
import { procEntries, procMasks } from "./proc-masks.ts";

const folder = (path: string) => ({ path, isFolder: true, mode: 0o555 });
const file = (path: string, mode: number) => ({ path, isFolder: false, mode });
const entries = [
  ...["/proc/sys", "/proc/bus", "/proc/fs", "/proc/newcomer", "/proc/sys/fs/binfmt_misc"].map(folder),
  ...[file("/proc/keys", 0o444), file("/proc/cpuinfo", 0o444)],
  ...[file("/proc/mtrr", 0o644), file("/proc/kmsg", 0o400), file("/proc/sysrq-trigger", 0o200)],
];

test("hides only the keys in an ordinary user's sandbox: file modes protect the rest", () => {
  expect(procMasks(1000, entries)).toEqual({ readOnly: [], folders: [], files: ["/proc/keys"] });
});

test("root's sandbox sees the settings read-only, and nothing that only root may read or write", () => {
  expect(procMasks(0, entries)).toEqual({
    readOnly: ["/proc/sys"],
    folders: ["/proc/fs", "/proc/newcomer", "/proc/sys/fs/binfmt_misc"],
    files: ["/proc/keys", "/proc/mtrr", "/proc/kmsg", "/proc/sysrq-trigger"],
  });
});

test("lists neither processes nor links of this host's /proc", () => {
  const paths = procEntries().map(({ path }) => path);
  expect(paths).toContain("/proc/sys");
  for (const path of ["/proc/self", "/proc/1", "/proc/mounts"]) expect(paths).not.toContain(path);
});
