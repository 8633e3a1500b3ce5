import { afterAll, beforeEach, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { faultOfPlace } from "./build-place.ts";
import { systemHost, systemLayout } from "./layout.ts";

const root = realpathSync(mkdtempSync(join(tmpdir(), "build-place-")));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const at = (...parts: string[]): string => join(root, ...parts);
const layout = {
  runDir: at("home/run"),
  stateDir: at("home/state"),
  workspaceRoot: at("home/workspace"),
  cacheRoot: at("home/cache"),
};

function makeBuild(path: string): string {
  for (const name of ["bin", "lib/x", "runtime"])
    mkdirSync(join(path, name), { recursive: true, mode: 0o755 });
  for (const name of ["bin/x", "lib/x/main.js", "lib/x/main.js.jsc", "runtime/bun", "build.json"])
    writeFileSync(join(path, name), "", { mode: 0o755 });
  return path;
}
const link = (path: string, target: string): string => {
  symlinkSync(target, path);
  return path;
};

beforeEach(() => {
  rmSync(at("home"), { recursive: true, force: true });
  rmSync(at("builds"), { recursive: true, force: true });
  for (const name of ["workspace/agent", "cache", "run"]) mkdirSync(at("home", name), { recursive: true });
  makeBuild(at("builds/good"));
});

test("uses a build that only its user may change, also through links", () => {
  expect(faultOfPlace(at("builds/good"), layout)).toBeUndefined();
  expect(faultOfPlace(link(at("home/current"), at("builds/good")), layout)).toBeUndefined();
  expect(faultOfPlace(link(at("home/relative"), "../builds/./good"), layout)).toBeUndefined();
});

test("refuses a build in a folder that sandboxes write to, or with a path through one", () => {
  for (const name of ["workspace", "cache", "run"]) {
    const build = makeBuild(at("home", name, "build"));
    expect(faultOfPlace(build, layout)).toContain(`"${at("home", name)}", where sandboxes write`);
    expect(faultOfPlace(link(at("home", `to-${name}`), build), layout)).toContain("where sandboxes write");
    const way = link(at("home", name, "way"), at("builds"));
    expect(faultOfPlace(`${way}/good`, layout)).toContain("where sandboxes write");
  }
  // The folder itself may have another name, too.
  const alias = link(at("alias"), at("home"));
  expect(
    faultOfPlace(`${alias}/workspace/build`, { ...layout, workspaceRoot: `${alias}/workspace` }),
  ).toContain("where sandboxes write");
});

test.each([
  "",
  "bin",
  "bin/x",
  "lib",
  "lib/x",
  "lib/x/main.js",
  "lib/x/main.js.jsc",
  "runtime",
  "runtime/bun",
  "build.json",
])('refuses a build whose "%s" every user may change', (part) => {
  chmodSync(at("builds/good", part), 0o777);
  expect(faultOfPlace(at("builds/good"), layout)).toContain("every user may change");
});

test("checks folders above the build and above link targets; a sticky folder protects its entries", () => {
  chmodSync(at("builds"), 0o777);
  expect(faultOfPlace(at("builds/good"), layout)).toContain(`every user may change "${at("builds")}"`);
  chmodSync(at("builds"), 0o1777);
  expect(faultOfPlace(at("builds/good"), layout)).toBeUndefined();
  mkdirSync(at("loose"));
  writeFileSync(at("loose/bun"), "");
  chmodSync(at("loose"), 0o777);
  rmSync(at("builds/good/runtime/bun"));
  symlinkSync(at("loose/bun"), at("builds/good/runtime/bun"));
  expect(faultOfPlace(at("builds/good"), layout)).toContain(`every user may change "${at("loose")}"`);
});

test("refuses a build of another user, or that another group may change (needs root)", () => {
  if (process.getuid?.() !== 0) return;
  chownSync(at("builds/good/lib/x"), 65534, 0);
  expect(faultOfPlace(at("builds/good"), layout)).toContain("belongs to user 65534");
  chownSync(at("builds/good/lib/x"), 0, 65534);
  chmodSync(at("builds/good/lib/x"), 0o775);
  expect(faultOfPlace(at("builds/good"), layout)).toContain("group 65534 may change");
  chownSync(at("builds/good/lib/x"), 0, 0);
  expect(faultOfPlace(at("builds/good"), layout)).toBeUndefined();
});

test("a system installation uses only builds in its builds folder or in the Nix store", () => {
  expect(faultOfPlace(at("builds/good"), systemLayout)).toContain(`neither in ${systemHost.buildsDir}`);
});

test("missing files and link loops are faults, not crashes", () => {
  expect(faultOfPlace(at("none"), layout)).toContain("it lacks files");
  expect(faultOfPlace(link(at("home/circle"), "circle"), layout)).toContain("too many links");
  rmSync(at("builds/good/lib"), { recursive: true });
  expect(faultOfPlace(at("builds/good"), layout)).toContain("it lacks files");
});
