import { describe, expect, test } from "bun:test";
import { statfsSync } from "node:fs";
import { parseMachine } from "@bureau/schema/refs";
import { localShell } from "../remote/local.ts";
import { checkHost, type HostFacts, parseHostCheck } from "./host-check.ts";
import { hostProblems, type Wanted } from "./host-problems.ts";

const printed = `Welcome to this host!
KERNEL=not this one
bureau-host-check
KERNEL=Linux
ARCH=x86_64
HOSTNAME=new-host.internal
USER=root
UID=0
LIBC=glibc 2.41
SYSTEMD=257
SYSTEMD_RUNS=yes
PRIVILEGE=root
STAGING=/var/tmp
VAR_FREE_KB=9000000
VAR_FREE_INODES=900000
HAS=tar
HAS=gzip
HAS=sha256sum
PACKAGES=apt-get
NIX=
INSTALLED=
BUILD=
CONF=BUREAU_MACHINE_NAME=bureau/fleet/prod/machine/new-host
CONF=BUREAU_HOMESERVER_URL=http://h:6167/?a=b
HOMESERVER=ok
HOMESERVER_ERROR=
bureau-host-check-done
`;
const good = parseHostCheck(printed, "new-host");
const wanted: Wanted = {
  homeserver: "http://h:6167",
  machine: parseMachine("bureau/fleet/prod/machine/new-host"),
  buildBytes: 100_000_000,
  builds: ["x86_64"],
  interactive: false,
};
const problemsOf = (change: Partial<HostFacts>, want: Partial<Wanted> = {}): string[] =>
  hostProblems({ ...good, ...change }, { ...wanted, ...want }).map(({ what }) => what);

describe("the check of a host", () => {
  test("ignores text that a login prints", () => {
    expect(good).toMatchObject({ KERNEL: "Linux", SYSTEMD: 257, UID: 0, VAR_FREE_KB: 9_000_000, NIX: "" });
    expect(good.has).toEqual(["tar", "gzip", "sha256sum"]);
    expect(good.conf.get("BUREAU_HOMESERVER_URL")).toBe("http://h:6167/?a=b");
  });

  test("names a missing or wrong answer", () => {
    expect(() => parseHostCheck(printed.replace("ARCH=x86_64\n", ""), "new-host")).toThrow("ARCH");
    expect(() => parseHostCheck(printed.replace("=257", "=new"), "new-host")).toThrow("SYSTEMD");
  });

  test("runs on this machine, and reports a homeserver that does not answer", async () => {
    const facts = await checkHost(localShell(), "http://127.0.0.1:1");
    expect(facts.KERNEL).toBe("Linux");
    expect(facts.LIBC).toMatch(/^glibc \d/);
    expect(facts.has).toContain("sha256sum");
    const { ffree, files } = statfsSync("/var");
    expect(facts.VAR_FREE_INODES === undefined).toBe(files === 0);
    // Other programs create and remove files meanwhile.
    if (files > 0) expect(Math.abs((facts.VAR_FREE_INODES ?? 0) - ffree) / files).toBeLessThan(0.05);
    expect(facts.UID).toBe(process.getuid?.() ?? 0);
    expect(facts.HOMESERVER).toBe("unreachable");
    expect(facts.HOMESERVER_ERROR).not.toBe("");
  });
});

describe("a host can become a machine", () => {
  test("when it meets every requirement, also when it has already joined as that machine", () => {
    expect(problemsOf({})).toEqual([]);
    expect(problemsOf({ conf: new Map() })).toEqual([]);
    expect(problemsOf({ HOMESERVER: "unknown" })).toEqual([]);
  });

  test("not on another kernel, architecture or C library", () => {
    expect(problemsOf({ KERNEL: "FreeBSD" })).toContain("it runs FreeBSD, not Linux");
    expect(problemsOf({ ARCH: "riscv64" })).toContain("its architecture is riscv64");
    expect(problemsOf({ ARCH: "aarch64" })).toContain(
      "it is aarch64, and the runtime for that is not installed here",
    );
    expect(problemsOf({ ARCH: "aarch64" }, { builds: ["x86_64", "aarch64"] })).toEqual([]);
    for (const LIBC of ["musl", "unknown", "glibc 2.16", "glibc 1.99"])
      expect(problemsOf({ LIBC }), LIBC).toHaveLength(1);
    for (const LIBC of ["glibc 2.17", "glibc 3.0"]) expect(problemsOf({ LIBC }), LIBC).toEqual([]);
  });

  test("not without a systemd that is new enough and runs", () => {
    expect(problemsOf({ SYSTEMD: undefined })).toEqual(["it has no systemd"]);
    expect(problemsOf({ SYSTEMD: 249 })).toEqual(["its systemd is 249"]);
    expect(problemsOf({ SYSTEMD_RUNS: "" })).toEqual(["systemd is installed and does not run"]);
  });

  test("not without a way to become root", () => {
    expect(problemsOf({ PRIVILEGE: "none", USER: "ada" })).toHaveLength(1);
    expect(problemsOf({ PRIVILEGE: "sudo-password" })).toHaveLength(1);
    expect(problemsOf({ PRIVILEGE: "sudo-password" }, { interactive: true })).toEqual([]);
    expect(problemsOf({ PRIVILEGE: "sudo" })).toEqual([]);
  });

  test("not without free space, or a folder that programs run from; both only when a build must be sent", () => {
    expect(problemsOf({ VAR_FREE_KB: 200_000 })).toEqual(["only 195 MB are free in /var"]);
    expect(problemsOf({ VAR_FREE_KB: 200_000 }, { buildBytes: 0 })).toEqual([]);
    expect(problemsOf({ VAR_FREE_INODES: 12 })).toEqual(["only 12 inodes are free in /var"]);
    expect(problemsOf({ VAR_FREE_INODES: undefined })).toEqual([]);
    expect(problemsOf({ STAGING: "" })).toHaveLength(1);
    expect(problemsOf({ STAGING: "" }, { buildBytes: 0 })).toEqual([]);
  });

  test("not when it is another machine, or does not reach the homeserver", () => {
    const conf = new Map([["BUREAU_MACHINE_NAME", "bureau/fleet/prod/machine/other"]]);
    expect(problemsOf({ conf })[0]).toContain('says "bureau/fleet/prod/machine/other"');
    expect(problemsOf({ HOMESERVER: "unreachable", HOMESERVER_ERROR: "refused" })[0]).toContain(
      "http://h:6167 (refused)",
    );
  });

  test("lists every problem at once", () => {
    expect(problemsOf({ SYSTEMD: 1, LIBC: "musl", PRIVILEGE: "none", has: [] })).toHaveLength(4);
  });
});
