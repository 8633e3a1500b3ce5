/** The doctor of a rootless instance: what applies to it, without root and without systemd. */
import { expect, test } from "bun:test";
import { chmodSync } from "node:fs";
import type { DoctorJson } from "@bureau/cli/machine/doctor-report";
import { useBureau } from "@bureau/testkit/use-bureau";
import { complaints } from "./lab/fleet.ts";

const bureau = useBureau();

async function examine(...flags: string[]): Promise<{ code: number; said: DoctorJson }> {
  const { code, stdout } = await bureau().run("machine", "doctor", "--json", ...flags);
  return { code, said: JSON.parse(stdout) as DoctorJson };
}

test("a running instance is healthy, and the doctor reports that its key is only a file", async () => {
  const { code, said } = await examine();
  expect(code).toBe(0);
  // A full disk, an unsynchronized clock, control groups and bubblewrap depend on the host, not on Bureau.
  const ofHost = (id: string): boolean => id === "clock" || id === "bubblewrap" || id.startsWith("disk-");
  const ours = Object.entries(complaints(said)).filter(([id]) => !ofHost(id));
  expect(ours).toEqual([["machine-key", "warn"]]);
  expect(said.checks.find(({ id }) => id === "unit:bureau-daemon.service")?.status).toBe("skip");
  expect(said.checks.find(({ id }) => id === "published-key")?.status).toBe("pass");
});

test("finds a folder that others may write to; --fix leaves the instance to its owner", async () => {
  chmodSync(bureau().layout.workspaceRoot, 0o777);
  expect(complaints((await examine()).said)["directory-workspace"]).toBe("fail");
  const fixed = await examine("--fix");
  expect([fixed.code, fixed.said.changes]).toEqual([1, []]);
  chmodSync(bureau().layout.workspaceRoot, 0o700);
});

test("reports what a stopped instance lacks", async () => {
  await bureau().run("down");
  const { code, said } = await examine("--check", "homeserver,socket:observe.sock,daemon");
  expect(code).toBe(1);
  expect(said.summary).toEqual({ pass: 0, warn: 0, fail: 3, skip: 0 });
  await bureau().run("up");
}, 60_000);
