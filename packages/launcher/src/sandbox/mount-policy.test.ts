import { afterAll, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Mount } from "@bureau/schema/template";
import { resolveMount } from "./mount-policy.ts";

// A home that contains everything, as for a rootless instance.
const root = mkdtempSync("/tmp/mp-");
const home = join(root, "home");
const layout = {
  runDir: join(home, "b/run"),
  stateDir: join(home, "b/state"),
  workspaceRoot: join(home, "b/workspace"),
  cacheRoot: join(home, "b/cache"),
};
for (const folder of Object.values(layout)) mkdirSync(folder, { recursive: true });
const outside = join(root, "data");
mkdirSync(outside);
mkdirSync(join(home, ".ssh"));
writeFileSync(join(layout.stateDir, "machine-key.txt"), "secret");
afterAll(() => rmSync(root, { recursive: true, force: true }));

const policy = { layout, homes: [home], buildDir: join(root, "programs") };
mkdirSync(policy.buildDir);
const mount = (extra: Partial<Mount>) => resolveMount({ source: outside, dest: "/data", ...extra }, policy);
const workspace = (path: string): string => join(layout.workspaceRoot, path);

describe("the mount policy", () => {
  test("allows folders of the host, read-only by default", () => {
    expect(mount({})).toEqual({ type: "bind", source: outside, dest: "/data", writable: false });
    expect(mount({ mode: "rw" })).toMatchObject({ writable: true });
    expect(mount({ source: "/usr/share" })).toMatchObject({ source: "/usr/share" });
  });

  test.each([
    ["/"],
    ["/root"],
    ["/root/.ssh"],
    ["/home"],
    ["/proc"],
    ["/proc/1/root"],
    ["/sys"],
    ["/dev"],
    ["/run"],
    ["/etc"],
    ["/etc/shadow"],
    ["/tmp"],
    ["/var"],
    ["/usr/../etc/shadow"],
  ])("refuses %s", (source) => {
    if (existsSync(source)) expect(() => mount({ source, optional: true })).toThrow("Cannot mount");
  });

  test("mounts the host's certificates without the private keys beside them, and never writable", () => {
    if (!existsSync("/etc/ssl/private")) return;
    const ssl = { source: "/etc/ssl", dest: "/etc/ssl" };
    expect(mount(ssl)).toEqual({ ...ssl, type: "bind", writable: false, hidden: ["private"] });
    expect(() => mount({ ...ssl, mode: "rw" })).toThrow("Cannot mount");
    expect(() => mount({ ...ssl, source: "/etc/ssl/private" })).toThrow("Cannot mount");
  });

  test("mounts the host's resolver from the target of its link", () => {
    const source = "/etc/resolv.conf";
    const found = mount({ source, dest: source, optional: true });
    if (existsSync(source)) expect(found).toMatchObject({ source: realpathSync(source), writable: false });
    else expect(found).toBeUndefined();
  });

  test("refuses the user's home, its content, and folders above it", () => {
    for (const source of [home, join(home, ".ssh"), root])
      expect(() => mount({ source })).toThrow("Cannot mount");
  });

  test("refuses Bureau's state and run folders, also through the workspace", () => {
    for (const source of [
      layout.stateDir,
      layout.runDir,
      join(layout.stateDir, "machine-key.txt"),
      join(home, "b"),
    ])
      expect(() => mount({ source })).toThrow("Cannot mount");
    expect(() => mount({ source: workspace("../state") })).toThrow("Bureau's own");
  });

  test("refuses to make system folders or Bureau's programs writable", () => {
    expect(() => mount({ source: "/usr/share", mode: "rw" })).toThrow("never writable");
    expect(() => mount({ source: policy.buildDir, mode: "rw" })).toThrow("never writable");
    expect(mount({ source: policy.buildDir })).toBeDefined();
  });

  test("follows no link out of the workspace, planted at any depth", () => {
    mkdirSync(workspace("agent"));
    symlinkSync(home, workspace("agent/out"));
    symlinkSync("/etc", workspace("agent/etc"));
    symlinkSync(layout.stateDir, workspace("agent/state"));
    symlinkSync(layout.cacheRoot, workspace("agent/cache"));
    for (const path of ["agent/out", "agent/out/.ssh", "agent/etc", "agent/state", "agent/cache"])
      expect(() => mount({ source: workspace(path) })).toThrow("leads out of");
    expect(() => mount({ source: workspace("agent/out/made/deep"), mode: "rw" })).toThrow("leads out of");
    expect(existsSync(join(home, "made"))).toBe(false);
  });

  test("follows no link inside the workspace: an agent may have made it, to reach another principal's files", () => {
    mkdirSync(workspace("other/below"), { recursive: true });
    mkdirSync(workspace("mine"), { recursive: true });
    symlinkSync("../other", workspace("mine/data"));
    for (const path of ["mine/data", "mine/data/below"])
      for (const mode of ["ro", "rw"] as const)
        expect(() => mount({ source: workspace(path), mode, optional: true })).toThrow("a link in it leads");
    expect(() => mount({ source: workspace("mine/data/made"), mode: "rw" })).toThrow("a link in it leads");
    expect(existsSync(workspace("other/made"))).toBe(false);
    expect(mount({ source: workspace("other/below") })).toMatchObject({ source: workspace("other/below") });
  });

  test("allows the workspace itself to be a link", () => {
    const alias = join(outside, "workspace-alias");
    symlinkSync(layout.workspaceRoot, alias);
    const aliased = { ...policy, layout: { ...layout, workspaceRoot: alias } };
    mkdirSync(workspace("plain"), { recursive: true });
    const found = resolveMount({ source: join(alias, "plain"), dest: "/data" }, aliased);
    expect(found).toMatchObject({ source: workspace("plain") });
  });

  test("refuses a link on the host that leads to a forbidden path", () => {
    symlinkSync("/etc/shadow", join(outside, "innocent"));
    expect(() => mount({ source: join(outside, "innocent") })).toThrow("Cannot mount");
  });

  test("makes missing writable folders inside the roots for the user alone, and nothing else", () => {
    expect(mount({ source: workspace("new/deep"), mode: "rw" })).toMatchObject({
      source: workspace("new/deep"),
    });
    expect(statSync(workspace("new/deep")).mode & 0o777).toBe(0o700);
    expect(() => mount({ source: workspace("absent") })).toThrow("does not exist");
    expect(() => mount({ source: join(outside, "absent"), mode: "rw" })).toThrow("does not exist");
    expect(mount({ source: join(outside, "absent"), optional: true })).toBeUndefined();
    expect(existsSync(join(outside, "absent"))).toBe(false);
  });

  test("refuses destinations that would hide Bureau's folder, /proc or /dev", () => {
    for (const dest of [
      "/run/bureau",
      "/run/bureau/secrets",
      "/run",
      "/",
      "/proc",
      "/proc/self",
      "/dev",
      "/dev/null",
      "/x/../run",
    ])
      expect(() => mount({ dest })).toThrow("hide");
    expect(mount({ dest: "/dev/shm", type: "tmpfs", source: undefined })).toEqual({
      type: "tmpfs",
      dest: "/dev/shm",
    });
  });

  test("accepts size and mode of a tmpfs and refuses any other option", () => {
    expect(mount({ type: "tmpfs", options: "size=64m,mode=1777" })).toEqual({
      type: "tmpfs",
      dest: "/data",
      sizeBytes: 64 * 1024 * 1024,
      mode: "1777",
    });
    expect(() => mount({ type: "tmpfs", options: "exec" })).toThrow('"exec"');
    expect(() => mount({ options: "exec" })).toThrow('"exec"');
    expect(() => mount({ source: "relative" })).toThrow("absolute");
  });
});
