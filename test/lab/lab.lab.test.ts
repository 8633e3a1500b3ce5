/** The lab itself: machines boot, reach each other, keep their disks, and show what was changed on them. */
import { expect, test } from "bun:test";
import { openLab } from "./lab.ts";
import { diffListings } from "./listing.ts";
import { buildInside } from "./machine.ts";
import { useLab } from "./use-lab.ts";

const lab = useLab(async (opened) => {
  await Promise.all([opened.boot("m1"), opened.boot("m2")]);
});

test("two machines are up, with their own identities and no failed unit", async () => {
  const machines = [lab().machine("m1"), lab().machine("m2")];
  for (const machine of machines) {
    expect(await machine.ok("systemctl is-system-running")).toBe("running\n");
    expect(await machine.ok("hostname")).toBe(`${machine.name}\n`);
    expect(await machine.ok("ps -p 1 -o comm=")).toBe("systemd\n");
  }
  const identity = "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub | sha256sum";
  const [one, two] = await Promise.all(machines.map((machine) => machine.ok(identity)));
  expect(one).not.toBe(two);
});

test("machines reach only each other, by name", async () => {
  const greeting = await lab().machine("m1").ok("exec 3<>/dev/tcp/m2/22; head -c 7 <&3");
  expect(greeting).toBe("SSH-2.0");
  const outside = await lab().machine("m1").run("exec 3<>/dev/tcp/192.0.2.1/80", { timeoutMs: 20_000 });
  expect(outside.code).not.toBe(0);
  await lab().setCable("m2", false);
  const pulled = "timeout 1 bash -c 'exec 3<>/dev/tcp/m2/22'";
  expect((await lab().machine("m1").run(pulled)).code).not.toBe(0);
  await lab().setCable("m2", true);
  await lab().machine("m1").eventually(pulled);
});

test("alice may use sudo, mallory may not, and groups are as they are now", async () => {
  const m1 = lab().machine("m1");
  expect(await m1.ok("sudo -n id -u", { user: "alice" })).toBe("0\n");
  expect((await m1.run("sudo -n id -u", { user: "mallory" })).code).not.toBe(0);
  await m1.ok("groupadd watchers && usermod --append --groups watchers mallory");
  expect(await m1.ok("id -Gn; pwd; echo $HOME", { user: "mallory" })).toBe(
    "mallory watchers\n/home/mallory\n/home/mallory\n",
  );
});

test("bubblewrap makes every namespace for a system user in a service", async () => {
  const m1 = lab().machine("m1");
  await m1.ok("useradd --system --shell /usr/sbin/nologin boxed");
  const sandbox =
    "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev sh -c 'ls /proc | grep -c ^[0-9]'";
  expect(Number(await m1.ok(sandbox, { user: "boxed" }))).toBeLessThan(10);
  await m1.ok(`systemd-run --wait --pipe --quiet --uid=boxed -- ${sandbox}`);
});

test("secrets can be sealed to the machine", async () => {
  const m1 = lab().machine("m1");
  await m1.ok("systemd-creds setup");
  const sealed = await m1.ok("systemd-creds encrypt --with-key=host --name=word - -", {
    input: "abracadabra",
  });
  expect(await m1.ok("systemd-creds decrypt --name=word - -", { input: sealed })).toBe("abracadabra");
});

test("a command that exceeds its time is killed, with its output in the error", async () => {
  const m1 = lab().machine("m1");
  const late = m1.run("echo on the way; sleep 777", { timeoutMs: 5_000 });
  await expect(late).rejects.toThrow(/did not end within 5000 ms.*\non the way/su);
  expect((await m1.run("pgrep --exact --full 'sleep 777'")).code).toBe(1);
});

test("reboot and power cut keep the disk and nothing else", async () => {
  const m1 = lab().machine("m1");
  await m1.writeFile("/srv/kept/note", "kept\n", { mode: 0o640, owner: "alice" });
  const boots = [await m1.ok("cat /proc/sys/kernel/random/boot_id; touch /run/lost")];
  for (const again of [() => m1.reboot(), () => m1.powerCut(), () => m1.shutdown().then(() => m1.start())]) {
    await again();
    boots.push(await m1.ok("cat /proc/sys/kernel/random/boot_id"));
    expect(await m1.readFile("/srv/kept/note")).toBe("kept\n");
    expect(await m1.ok("stat --format='%a %U' /srv/kept/note")).toBe("640 alice\n");
    expect((await m1.run("test -e /run/lost")).code).toBe(1);
    await m1.ok("touch /run/lost");
  }
  expect(new Set(boots).size).toBe(4);
  expect(await m1.journal(undefined, 5_000)).toContain("Reached target");
});

test("a listing shows added, removed and changed entries, and none after a reboot", async () => {
  const m2 = lab().machine("m2");
  await m2.writeFile("/etc/changed", "before");
  const before = await m2.listing();
  await m2.powerCut();
  expect(diffListings(before, await m2.listing())).toEqual([]);
  await m2.writeFile("/etc/changed", "after");
  await m2.writeFile("/opt/left/behind", "");
  await m2.ok("useradd --system forgotten; rm /etc/motd; systemctl mask --quiet ssh.service");
  const changes = diffListings(before, await m2.listing({ exclude: ["/var/lib/systemd"] }));
  for (const expected of [
    /^~ \/etc\/changed: file root:root 0644 6 bytes \w+ → file root:root 0644 5 bytes/u,
    /^\+ \/opt\/left: folder/u,
    /^\+ \/opt\/left\/behind: file root:root 0644 0 bytes/u,
    /^\+ user forgotten: /u,
    /^- \/etc\/motd: /u,
    /^~ unit ssh.service: enabled → masked$/u,
  ])
    expect(changes.some((line) => expected.test(line))).toBe(true);
});

test("the build is there, read-only", async () => {
  const m1 = lab().machine("m1");
  expect(await m1.ok(`${buildInside}/bin/bureau version`, { user: "alice" })).toMatch(/\d+\.\d+\.\d+/u);
  expect((await m1.run(`touch ${buildInside}/written`)).code).not.toBe(0);
});

test("a machine with Nix has its tools and its daemon, and an empty store", async () => {
  const nix = await lab().boot("nix", { image: "nix", user: "alice" });
  expect(await nix.ok("nix-store --version")).toContain("(Nix) 2.");
  await nix.ok("systemctl is-active nix-daemon.socket");
  const path = await nix.ok("echo hello > greeting && nix-store --add greeting");
  expect(path).toMatch(/^\/nix\/store\/\w+-greeting\n$/u);
  expect(await nix.ok(`cat ${path}`)).toBe("hello\n");
  const build = `derivation { name = "built"; system = builtins.currentSystem; builder = "/bin/sh"; args = ["-c" "echo built > $out"]; }`;
  expect(await nix.ok(`cat "$(nix-build --no-out-link --expr '${build}')"`)).toBe("built\n");
});

for (const engine of ["embedded", "synapse"] as const)
  test(`the homeserver (${engine}) answers from another machine, and again after an outage`, async () => {
    await using own = await openLab();
    const [m1, hs] = await Promise.all([own.boot("m1", { user: "alice" }), own.homeserver({ engine })]);
    const asked = `curl -fsS ${hs.url}/_matrix/client/versions`;
    expect(await m1.json(asked)).toHaveProperty("versions");
    expect(await m1.ok("curl -fsS http://bureau.lab:6167/_matrix/client/versions")).toContain("versions");
    const known = `curl -sS '${hs.url}/_matrix/client/v1/register/m.login.registration_token/validity?token=`;
    expect(await m1.json(`${known}${hs.registrationToken}'`)).toEqual({ valid: true });
    await hs.stop();
    expect((await m1.run(asked)).code).not.toBe(0);
    await hs.start();
    expect(await m1.json(`${known}${hs.registrationToken}'`)).toEqual({ valid: true });
  });
