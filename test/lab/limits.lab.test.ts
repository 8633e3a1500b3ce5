/**
 * A user's own service manager delegates control groups: `bureau up` puts its tmux server into a scope of it, and each
 * sandbox into a group of its own. How the limits themselves hold is shown on a kernel that has them (docs/lab.md).
 */
import { expect, test } from "bun:test";
import { bureau } from "./fleet.ts";
import { useLab } from "./use-lab.ts";

type Status = {
  machine: { limits?: { level: string; reason?: string } };
  principals: { name: string; pid?: number }[];
};

const lab = useLab(async (opened) => {
  await opened.boot("m1", { user: "alice" });
});

test("sandboxes of an ordinary user are below the user's manager, and leave nothing behind", async () => {
  const m1 = lab().machine("m1");
  await m1.ok("loginctl enable-linger alice", { user: "root" });
  await m1.eventually("test -S /run/user/1000/systemd/private", { user: "root" });
  const status = await m1.json<Status>(`${bureau} up --json`);
  // Where the lab's host has controllers, all is enforced.
  expect(["grouped", "partly", "enforced"]).toContain(status.machine.limits?.level ?? "unsaid");
  const pid = status.principals.find(({ name }) => name === "agent/greeter")?.pid;
  const group = (await m1.ok(`cat /proc/${pid}/cgroup`)).trim();
  const scope = /^0::(.*\/user@1000\.service\/.*\/bureau-terminals-[0-9a-f]+\.scope)\/agent\+greeter$/m.exec(
    group,
  )?.[1];
  expect(scope).toBeTruthy();
  await m1.ok(`${bureau} down`);
  await m1.eventually(`test ! -e /sys/fs/cgroup${scope}`, { user: "root" });
});

test("without the manager everything works, and the missing limits are reported", async () => {
  const m1 = lab().machine("m1");
  await m1.ok("loginctl disable-linger alice", { user: "root" });
  const { stderr } = await m1.run(`${bureau} up`);
  expect(stderr).toContain("limits are not enforced");
  const status = await m1.json<Status>(`${bureau} status --json`);
  expect(status.machine.limits).toMatchObject({ level: "none", reason: expect.stringMatching(/\w/) });
  await m1.ok(`${bureau} down`);
});
