import { expect, test } from "bun:test";
import { parseMountinfo } from "@bureau/os/mounts";
import { findStrayMount } from "./mount-check.ts";

const line = (device: string, root: string, point: string): string =>
  `64 42 ${device} ${root} ${point} rw,nosuid - ext4 /dev/x rw`;
const host = parseMountinfo(
  [
    line("8:1", "/", "/"),
    line("8:2", "/@home", "/home"),
    line("0:30", "/", "/home/u/w/mounted"),
    line("0:6", "/", "/dev"),
  ].join("\n"),
);
const inside = (...lines: [string, string, string][]) =>
  parseMountinfo(lines.map((entry) => line(...entry)).join("\n"));

test("accepts mounts of allowed folders, and mounts below them", () => {
  const mounts = inside(
    ["8:1", "/usr", "/usr"],
    ["8:2", "/@home/u/w", "/project"],
    ["0:30", "/", "/project/mounted"],
  );
  expect(findStrayMount(host, mounts, ["/usr", "/home/u/w"])).toBeUndefined();
});

test("reports a mount of any other host folder, at any place", () => {
  const stray: [string, string, string] = ["8:2", "/@home/u/.ssh", "/project"];
  expect(findStrayMount(host, inside(stray), ["/usr", "/home/u/w"])).toMatchObject({
    root: "/@home/u/.ssh",
    point: "/project",
  });
  expect(findStrayMount(host, inside(["8:1", "/usr", "/usr"], ["8:1", "/", "/x"]), ["/usr"])).toMatchObject({
    point: "/x",
  });
});

test("reports a folder that was removed or replaced meanwhile", () => {
  expect(
    findStrayMount(host, inside(["8:2", "/@home/u/w//deleted", "/project"]), ["/home/u/w"]),
  ).toBeDefined();
});

test("accepts file systems made for the sandbox, and bubblewrap's devices", () => {
  const mounts = inside(
    ["0:99", "/newroot", "/"],
    ["0:100", "/", "/tmp"],
    ["0:6", "/null", "/dev/null"],
    ["0:101", "/", "/proc"],
  );
  expect(findStrayMount(host, mounts, [])).toBeUndefined();
});

test("reads names with spaces unchanged", () => {
  const [entry] = inside(["8:1", "/srv/a\\040b", "/data\\040x"]);
  expect(entry).toEqual({ device: "8:1", root: "/srv/a b", point: "/data x" });
  expect(findStrayMount(host, inside(["8:1", "/srv/a\\040b", "/d"]), ["/srv/a b"])).toBeUndefined();
});
