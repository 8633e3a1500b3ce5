/** Every built-in template starts on this host. An agent that can never start is reported as failed and is not retried forever. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, useBureau } from "@bureau/testkit/use-bureau";

setDefaultTimeout(120_000);

const running = useBureau();
type Agent = { state: string; reason?: string };

const create = (name: string, ...args: string[]) => running().run("agent", "create", name, ...args, "--json");

/** The output of a started agent of that template, once it has a line that begins with `done`. */
async function said(name: string, template: string, script: string): Promise<string> {
  const { code, stdout, stderr } = await create(
    name,
    ...["--template", `bureau/template:${template}`, "--command", `${script}; echo done; sleep 1000`],
  );
  if (code !== 0) throw new Error(`${stdout}${stderr}`);
  expect((JSON.parse(stdout) as Agent).state).toBe("running");
  return await eventually(async () => {
    const logs = await running().run("agent", "logs", name);
    return /^done$/m.test(logs.stdout) ? logs.stdout : undefined;
  });
}

describe("the built-in templates", () => {
  test.each(["base", "agent", "service", "greeter"])("%s starts, without network", async (name) => {
    const text = await said(`t-${name}`, name, "cat /proc/net/dev | wc -l; touch $HOME/x && echo home");
    // Two lines of heading, and the loopback.
    expect(text).toMatch(/^3$/m);
    expect(text).toContain("home");
  });

  test.each(["base-networked", "agent-base", "service-base"])(
    "%s starts, with resolver and certificates and without the host's private keys",
    async (name) => {
      const text = await said(
        `t-${name}`,
        name,
        "for f in /etc/resolv.conf /etc/nsswitch.conf /etc/ssl/certs; do test -r $f && echo has $f; done; ls -A /etc/ssl",
      );
      for (const path of ["/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/ssl/certs"])
        if (existsSync(path)) expect(text).toContain(`has ${path}`);
      expect(text).not.toContain("private");
    },
  );
});

test("starts the Go implementation's template, which mounts all of /etc/ssl, with the private keys hidden", async () => {
  const filesystem = [{ source: "/etc/ssl", dest: "/etc/ssl", mode: "ro" }];
  const file = join(running().home, "whole.json");
  writeFileSync(file, JSON.stringify({ inherits: ["bureau/template:base"], filesystem }));
  await running().json("template", "publish", "bureau/template:whole", "--file", file);
  const text = await said("whole", "whole", 'echo "keys:$(ls -A /etc/ssl/private):"; ls -A /etc/ssl');
  expect(text).toContain("keys::");
  expect(text).toContain("certs");
});

test("a refused agent fails with a reason, and is retried only after a change", async () => {
  const file = join(running().home, "refused.json");
  const publish = async (filesystem: object[]): Promise<void> => {
    writeFileSync(file, JSON.stringify({ inherits: ["bureau/template:base"], filesystem }));
    await running().json("template", "publish", "bureau/template:refused", "--file", file);
  };
  await publish([{ source: "/proc", dest: "/host" }]);
  const args = ["--template", "bureau/template:refused", "--command", "sleep 1000"];
  const { code, stdout } = await create("refused", ...args);
  expect(code).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({ state: "failed", reason: expect.stringContaining('"/proc"') });
  await publish([]);
  const shown = await eventually(async () => {
    const agent = await running().json<Agent>("agent", "show", "refused");
    return agent.state === "running" ? agent : undefined;
  });
  expect(shown.reason).toBeUndefined();
});
