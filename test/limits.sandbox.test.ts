/** Limits of Bureau: hosts that forbid sandboxes, deep folders, two instances, revocation. */
import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SPARE_PROXIES } from "@bureau/launcher/spare-proxies";
import { MatrixSession } from "@bureau/matrix/session";
import { egressFetch } from "@bureau/os/egress";
import { machineSessionFile } from "@bureau/os/layout";
import { readMachineSession } from "@bureau/os/session-file";
import { bureauCommand, createBureau, processesOf } from "@bureau/testkit/bureau";
import { eventually } from "@bureau/testkit/use-bureau";

type Status = {
  machine: { state: string };
  daemon: { state: string };
  launcher: { state: string };
  principals: unknown[];
};

/** A PATH that holds links to a few programs and no others. */
function pathWith(folder: string, programs: readonly string[]): string {
  for (const program of programs) symlinkSync(Bun.which(program) ?? "", join(folder, program));
  return folder;
}

describe("a host that cannot make sandboxes", () => {
  test.each([
    ["bwrap", "bubblewrap"],
    ["tmux", "tmux"],
  ])("without %s: up names the package, and starts nothing", async (missing, name) => {
    const folder = mkdtempSync(join(tmpdir(), "path-"));
    const path = pathWith(
      folder,
      ["sh", "bwrap", "tmux"].filter((program) => program !== missing),
    );
    await using bureau = createBureau({ env: { PATH: path } });
    const { code, stderr } = await bureau.run("up");
    expect(code).toBe(1);
    expect(stderr).toContain(`Cannot find the program "${missing}"`);
    expect(stderr).toContain(name);
    expect(bureau.processes()).toEqual([]);
    rmSync(folder, { recursive: true });
  });

  // A namespace with the limit 0 refuses its processes, like a host with that setting.
  const limited = (command: string): string[] => [
    ...["unshare", "--user", "--map-root-user", "sh", "-ec"],
    'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"',
    ...["sh", ...command.split(" ")],
  ];
  // In a container /proc/sys is often read-only.
  const canLimit = Bun.spawnSync(limited("true")).success;

  test.skipIf(!canLimit)(
    "where the kernel grants no user namespace: up says so with the remedy, and starts nothing",
    async () => {
      await using bureau = createBureau();
      const child = Bun.spawn(limited(`${bureauCommand} up`), {
        env: { PATH: process.env["PATH"] ?? "", BUREAU_HOME: bureau.home },
        stdout: "pipe",
        stderr: "pipe",
      });
      const stderr = await new Response(child.stderr).text();
      expect(await child.exited).toBe(1);
      expect(stderr).toContain("Cannot make an unprivileged sandbox here");
      expect(stderr).toContain("user.max_user_namespaces");
      expect(bureau.processes()).toEqual([]);
    },
  );
});

describe("instances", () => {
  test("with a path too long for sockets use a short folder, and leave it empty when down", async () => {
    const root = mkdtempSync(join(tmpdir(), "deep-"));
    const home = join(root, "a-folder-with-a-long-name".repeat(4), "and-another-one".repeat(4));
    mkdirSync(home, { recursive: true, mode: 0o700 });
    await using bureau = createBureau({ env: { BUREAU_HOME: home, XDG_RUNTIME_DIR: "" }, home });
    await bureau.json("up");
    expect(bureau.layout.runDir.startsWith(home)).toBe(false);
    expect(existsSync(join(bureau.layout.runDir, "launcher.sock"))).toBe(true);
    expect(
      (await bureau.run("agent", "create", "deep", "--command", "echo down here; sleep 1000")).code,
    ).toBe(0);
    await eventually(
      async () => (await bureau.run("agent", "logs", "deep")).stdout === "down here\n" || undefined,
    );
    await bureau.json("down");
    expect(processesOf(bureau.layout)).toEqual([]);
    rmSync(root, { recursive: true });
  }, 60_000);

  test("run side by side without affecting each other", async () => {
    await using one = createBureau();
    await using two = createBureau();
    await Promise.all([one.json("up"), two.json("up")]);
    await one.json("agent", "create", "mine", "--command", "sleep 1000");
    const names = async (bureau: typeof one) =>
      (await bureau.json<{ name: string }[]>("agent", "list")).map(({ name }) => name);
    expect(await names(one)).toEqual(["greeter", "mine"]);
    expect(await names(two)).toEqual(["greeter"]);
    await one.json("down");
    expect((await two.json<Status>("status")).machine.state).toBe("online");
  }, 90_000);

  test("started twice at once are one instance", async () => {
    await using bureau = createBureau();
    const both = await Promise.all([bureau.run("up"), bureau.run("up")]);
    expect(both.map(({ code, stderr }) => (code === 0 ? "" : stderr))).toEqual(["", ""]);
    await bureau.json("up");
    const status = await bureau.json<{ principals: { state: string }[] }>("status");
    expect(status.principals.map(({ state }) => state)).toEqual(["running"]);
    // Four programs, tmux with its connection, and the greeter's proxy: a second instance would double them. Before exec a new
    // process still shows the arguments of its parent.
    await eventually(async () => (bureau.processes().length < 9 + SPARE_PROXIES ? true : undefined), {
      describe: () => `${bureau.processes().length} processes`,
    });
  }, 90_000);
});

describe("bureau up, interrupted", () => {
  test("at any moment, is completed by the next run", async () => {
    for (const afterMs of [60, 250, 450, 650, 850]) {
      await using bureau = createBureau();
      const first = Bun.spawn([bureauCommand, "up"], {
        env: { ...process.env, BUREAU_HOME: bureau.home },
        stdout: "ignore",
        stderr: "ignore",
      });
      await Bun.sleep(afterMs);
      first.kill("SIGKILL");
      await first.exited;
      const { principals } = await bureau.json<{ principals: { state: string }[] }>("up");
      expect(principals.map(({ state }) => state)).toEqual(["running"]);
    }
  }, 120_000);
});

describe("a machine whose session is revoked", () => {
  test("destroys its sandboxes, stops, and reports that at the next start", async () => {
    await using bureau = createBureau();
    await bureau.json("up");
    const machine = new MatrixSession({
      ...readMachineSession(machineSessionFile(bureau.layout)),
      fetch: egressFetch,
    });
    await machine.logout();
    const { launcher } = await eventually(
      async () => {
        const status = JSON.parse((await bureau.run("status", "--json")).stdout) as Status;
        return status.daemon.state === "revoked" && status.launcher.state === "stopped" ? status : undefined;
      },
      { timeoutMs: 60_000, describe: async () => (await bureau.run("status")).stdout },
    );
    expect(launcher.state).toBe("stopped");
    const again = await bureau.run("up");
    expect(again.code).toBe(1);
    expect(again.stderr).toContain("was revoked");
    expect(again.stderr).toContain("to start over");
  }, 120_000);
});

describe("an operator", () => {
  test("logs in with a password from a file, and the commands use that session", async () => {
    await using bureau = createBureau();
    await bureau.json("up");
    const before = readFileSync(bureau.layout.sessionFile, "utf8");
    const token = readFileSync(bureau.layout.registrationTokenFile, "utf8").trim();
    const password = new Bun.CryptoHasher("sha256").update(`bureau-admin-password:${token}`).digest("hex");
    await Bun.write(join(bureau.home, "password"), `${password}\n`);
    expect(
      (await bureau.run("login", "bureau-admin", "--password-file", join(bureau.home, "password"))).code,
    ).toBe(0);
    expect(readFileSync(bureau.layout.sessionFile, "utf8")).not.toBe(before);
    expect((await bureau.json<{ user_id: string }>("whoami")).user_id).toBe("@bureau-admin:bureau.local");
    await Bun.write(join(bureau.home, "password"), "wrong");
    const refused = await bureau.run(
      "login",
      "bureau-admin",
      "--password-file",
      join(bureau.home, "password"),
    );
    expect(refused.code).toBe(1);
    expect((await bureau.run("whoami")).code).toBe(0);
  }, 60_000);
});
