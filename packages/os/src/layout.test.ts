import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import {
  localpartBytesMaxFor,
  parseFleet,
  parsePrincipalName,
  SOCKET_PATH_BYTES_MAX,
} from "@bureau/schema/refs";
import {
  defaultHome,
  fleetRunDir,
  instanceLayout,
  lastOutputFile,
  launcherSocket,
  machineKeyFile,
  makePrivateDir,
  observeSocket,
  sandboxPaths,
  systemdScope,
  systemLayout,
  tmuxSession,
  userLockFile,
} from "./layout.ts";

const fleet = parseFleet("bureau/fleet/prod");

describe("the system's paths", () => {
  test("match the wire", () => {
    expect([launcherSocket(systemLayout), observeSocket(systemLayout), machineKeyFile(systemLayout)]).toEqual(
      ["/run/bureau/launcher.sock", "/run/bureau/observe.sock", "/var/lib/bureau/machine-key.txt"],
    );
    expect(fleetRunDir(systemLayout, fleet)).toBe("/run/bureau/fleet/prod");
    const paths = sandboxPaths(systemLayout, fleet, parsePrincipalName("agent/code/reviewer"));
    expect([paths.proxyLink, paths.adminSocket]).toEqual([
      "/run/bureau/fleet/prod/agent/code/reviewer.proxy.sock",
      "/run/bureau/fleet/prod/agent/code/reviewer.admin.sock",
    ]);
    expect(paths.proxySocket).toBe(`${paths.inside}/proxy.sock`);
    expect(paths.payload.startsWith(`${paths.inside}/`)).toBe(true);
    for (const outside of [paths.record, paths.exitCode, paths.adminSocket])
      expect(outside.startsWith(paths.inside)).toBe(false);
  });

  test("of two principals are never the same", () => {
    const names = ["agent/a-b", "agent/a/b", "agent/a.b", "agent/a_b", "agent-a/b", "service/a-b"];
    const accounts = names.map(parsePrincipalName);
    for (const place of [
      (account: (typeof accounts)[number]) => sandboxPaths(systemLayout, fleet, account).dir,
      (account: (typeof accounts)[number]) => sandboxPaths(systemLayout, fleet, account).adminSocket,
      (account: (typeof accounts)[number]) => lastOutputFile(systemLayout, account),
      tmuxSession,
    ])
      expect(new Set(accounts.map(place)).size).toBe(names.length);
  });

  test("a tmux session's name has neither dot nor colon", () => {
    expect(tmuxSession(parsePrincipalName("agent/a.b"))).toBe("bureau/agent/a~b");
    expect(systemdScope(parsePrincipalName("agent/code/reviewer"))).toBe("bureau-agent-code-reviewer");
  });
});

describe("an instance", () => {
  test("is in its home, with its sockets if their paths are short enough", () => {
    const layout = instanceLayout("/home/a/b", {});
    expect([layout.runDir, layout.stateDir]).toEqual(["/home/a/b/run", "/home/a/b/state"]);
    expect(layout.supervisorSocket).toBe("/home/a/b/run/supervisor.sock");
  });

  test("with a long home and no runtime folder has its sockets under /tmp", () => {
    const long = `/home/${"x".repeat(40)}`;
    const uid = process.getuid?.();
    for (const env of [{}, { XDG_RUNTIME_DIR: "" }, { XDG_RUNTIME_DIR: "rel" }, { XDG_RUNTIME_DIR: long }]) {
      const { runDir } = instanceLayout(long, env);
      expect(runDir).toMatch(new RegExp(`^/tmp/bureau-${uid}-[0-9a-f]{8}$`));
      expect(localpartBytesMaxFor(runDir)).toBeGreaterThanOrEqual(64);
    }
    expect(instanceLayout(`${long}y`, {}).runDir).not.toBe(instanceLayout(long, {}).runDir);
    expect(instanceLayout(long, {}).runDir).toBe(instanceLayout(`${long}/`, {}).runDir);
  });

  test("with the longest usable home still leaves 64 bytes for a localpart", () => {
    for (let length = 1; length < 60; length++) {
      const { runDir } = instanceLayout(`/${"h".repeat(length)}`, {});
      expect(`${runDir}/${"l".repeat(64)}.admin.sock`.length).toBeLessThanOrEqual(SOCKET_PATH_BYTES_MAX);
    }
  });

  test("is not in a runtime folder of another user, or one that others may write to", () => {
    const runtime = mkdtempSync("/tmp/bk-");
    const long = `/home/${"l".repeat(80)}`;
    const env = { XDG_RUNTIME_DIR: runtime };
    expect(instanceLayout(long, env).runDir).toStartWith(`${runtime}/bureau-`);
    chmodSync(runtime, 0o777);
    expect(instanceLayout(long, env).runDir).toStartWith("/tmp/bureau-");
    expect(instanceLayout(long, { XDG_RUNTIME_DIR: `${runtime}/none` }).runDir).toStartWith("/tmp/bureau-");
    rmSync(runtime, { recursive: true });
    // Root owns it for any other user; when root runs the test, there is no other user.
    const foreign = process.getuid?.() === 0 ? undefined : instanceLayout(long, { XDG_RUNTIME_DIR: "/run" });
    expect(foreign?.runDir ?? "/tmp/bureau-").toStartWith("/tmp/bureau-");
  });

  test("is the same through any link to its home, even before it exists", () => {
    const folder = mkdtempSync("/tmp/bk-");
    mkdirSync(`${folder}/real`);
    symlinkSync("real", `${folder}/link`);
    const layout = instanceLayout(`${folder}/real/share/bureau`, {});
    expect(instanceLayout(`${folder}/link/share/bureau`, {})).toEqual(layout);
    mkdirSync(layout.home, { recursive: true });
    expect(instanceLayout(`${folder}/link/share/bureau`, {})).toEqual(layout);
    rmSync(folder, { recursive: true });
  });

  test("is found by BUREAU_HOME, then XDG_DATA_HOME, then the home folder", () => {
    expect(defaultHome({ BUREAU_HOME: "/x/", XDG_DATA_HOME: "/d" })).toBe("/x");
    expect(defaultHome({ BUREAU_HOME: "", XDG_DATA_HOME: "/d" })).toBe("/d/bureau");
    for (const env of [{}, { XDG_DATA_HOME: "relative" }])
      expect(defaultHome(env)).toBe(join(homedir(), ".local/share/bureau"));
  });
});

describe("locks between one user's commands", () => {
  test("are in a folder that no other user may write to, for any environment", () => {
    const home = mkdtempSync("/tmp/bk-");
    const own = join(home, ".local/state/bureau/locks");
    for (const env of [{}, { XDG_RUNTIME_DIR: "/tmp" }, { XDG_RUNTIME_DIR: `${home}/none` }])
      expect(userLockFile("config", { HOME: home, ...env })).toBe(`${own}/bureau-config.lock`);
    expect(statSync(own).mode & 0o777).toBe(0o700);
    chmodSync(own, 0o777);
    expect(() => userLockFile("config", { HOME: home })).toThrow("mode 0700");
    const named = { HOME: "/proc/none", BUREAU_HOME: `${home}/b` };
    expect(userLockFile("config", named)).toBe(`${home}/b/locks/bureau-config.lock`);
    expect(() => userLockFile("config", { HOME: "/proc/none" })).toThrow("Cannot make the folder");
    expect(userLockFile("config", { HOME: home, XDG_RUNTIME_DIR: home })).toBe(`${home}/bureau-config.lock`);
    rmSync(home, { recursive: true });
  });
});

describe("private folders", () => {
  let dir = "";
  beforeEach(() => {
    dir = mkdtempSync("/tmp/bk-");
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));
  const refused = (path: string): void => {
    try {
      makePrivateDir(path);
    } catch (error) {
      expect(error).toBeInstanceOf(BureauError);
      expect((error as BureauError).code).toBe("forbidden");
      return;
    }
    throw new Error(`${path} was accepted`);
  };

  test("are created with mode 0700, parents too, and accepted again", () => {
    makePrivateDir(join(dir, "a/b"));
    makePrivateDir(join(dir, "a/b"));
    expect(statSync(join(dir, "a/b")).mode & 0o777).toBe(0o700);
  });

  test("refuse a folder that others may enter or we may not, a link, and a file", () => {
    for (const mode of [0o755, 0o710, 0o701, 0o770, 0o500]) {
      const path = join(dir, mode.toString(8));
      mkdirSync(path);
      chmodSync(path, mode);
      refused(path);
    }
    mkdirSync(join(dir, "real"), { mode: 0o700 });
    symlinkSync(join(dir, "real"), join(dir, "link"));
    refused(join(dir, "link"));
    symlinkSync(join(dir, "nowhere"), join(dir, "dangling"));
    refused(join(dir, "dangling"));
    writeFileSync(join(dir, "file"), "");
    refused(join(dir, "file"));
  });

  test.skipIf(process.getuid?.() !== 0)(
    "are refused when another user owns them (making one needs root)",
    () => {
      const path = join(dir, "foreign");
      mkdirSync(path, { mode: 0o700 });
      chownSync(path, 65_534, 65_534);
      refused(path);
    },
  );
});
