/**
 * Secrets and rules on a whole machine: a credential is provisioned, used, rotated and revoked, and afterwards it is nowhere
 * on the machine or at the homeserver; a user outside the operators' group learns nothing; the audit chain holds.
 */

import { expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { systemClock } from "@bureau/kit/clock";
import { waitFor } from "@bureau/kit/wait-for";
import { bureau, FLEET, installed, LabFleet } from "./fleet.ts";
import type { Machine } from "./machine.ts";
import { runtimeInside } from "./machine.ts";
import { useLab } from "./use-lab.ts";

const MACHINE = `${FLEET}/machine/m1`;
const USED_MS_MAX = 30_000;
/** Both have a prefix of their own, so that a search for one does not find the other. */
const [first, second] = ["canary-one", "canary-two"].map(
  (name) => `${name}-${randomBytes(16).toString("hex")}`,
) as [string, string];
const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

/** Writes a line for each request: the time, and the digest of what the proxy injected. It keeps no value. */
const upstream = `
const { createHash } = require("node:crypto");
const { appendFileSync } = require("node:fs");
Bun.serve({ hostname: "127.0.0.1", port: 9099, fetch(request) {
  const key = request.headers.get("x-api-key") ?? "";
  appendFileSync("/var/tmp/seen", Date.now() + " " + createHash("sha256").update(key).digest("hex") + "\\n");
  return new Response("fine");
} });`;

let fleet: LabFleet;
const lab = useLab(async (opened) => {
  [fleet] = await Promise.all([LabFleet.open(opened, "embedded"), opened.boot("m1")]);
  await fleet.join(opened.machine("m1"));
});
const m1 = (): Machine => lab().machine("m1");

/** When the upstream last got that value; undefined when it never did. */
async function lastUse(value: string): Promise<number | undefined> {
  const { stdout } = await m1().run(`grep ${sha256(value)} /var/tmp/seen | tail -1`);
  return stdout === "" ? undefined : Number(stdout.split(" ")[0]);
}

const isUsed = (value: string): Promise<number | undefined> =>
  waitFor(() => lastUse(value), { timeoutMs: USED_MS_MAX, clock: systemClock });

test("a credential reaches the requests of a running agent, is rotated, and ends when it is revoked", async () => {
  await m1().writeFile("/var/tmp/upstream.js", upstream);
  await m1().ok(`systemd-run --unit=lab-upstream ${runtimeInside} /var/tmp/upstream.js`);
  const template = {
    description: "calls a service with a key",
    inherits: ["bureau/template:agent"],
    proxy_services: {
      api: { upstream: "http://127.0.0.1:9099", inject_headers: { "x-api-key": "API_KEY" } },
    },
  };
  await fleet.op.ok("cat > caller.json", { input: JSON.stringify(template) });
  await fleet.do("template publish bureau/template:caller --file caller.json");
  const calls =
    "while :; do curl -s --unix-socket /run/bureau/proxy.sock http://proxy/http/api/; sleep 0.1; done";
  await fleet.do(
    `agent create demo --machine ${MACHINE} --template bureau/template:caller --command '${calls}'`,
  );
  const pid = await fleet.agentRuns(m1(), "demo");
  const provision = `credential provision agent/demo --machine ${MACHINE} --key API_KEY --stdin`;
  await fleet.op.ok(`${bureau} ${provision}`, { input: first });
  expect(await isUsed(first)).toBeNumber();
  const rotate = `credential rotate agent/demo --machine ${MACHINE} --key API_KEY --stdin`;
  await fleet.op.ok(`${bureau} ${rotate}`, { input: second });
  expect(await isUsed(second)).toBeNumber();
  const revokedAt = Date.now();
  await fleet.do(`credential revoke agent/demo --machine ${MACHINE} --key API_KEY`);
  const last = await waitFor(
    async () => {
      const at = (await lastUse(second)) ?? 0;
      return Date.now() - at > 2_000 ? at : undefined;
    },
    { timeoutMs: USED_MS_MAX, clock: systemClock },
  );
  expect(last).toBeNumber();
  console.log(
    `the last request with a revoked credential: ${(last ?? 0) - revokedAt} ms after the command began`,
  );
  // All of that without a restart.
  expect(await fleet.agentRuns(m1(), "demo")).toBe(pid);
}, 240_000);

test("afterwards no value is in an argument, an environment, a log, a file, a core dump or a terminal", async () => {
  const values = `${first}\n${second}\n`;
  const root = { user: "root", input: values };
  // A crash must not write the memory of a proxy to disk.
  await m1().run("pkill -ABRT -f bureau-proxy; sleep 1");
  const processes = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'";
  for (const searched of [
    `${processes} | grep -cF -f /dev/fd/3`,
    "journalctl --no-pager -a | grep -cF -f /dev/fd/3",
    "tmux -S /run/bureau/tmux.sock list-panes -a -F '#{pane_id}' | xargs -I{} tmux -S /run/bureau/tmux.sock capture-pane -pt {} -S - | grep -cF -f /dev/fd/3",
    "grep -rlF -f /dev/fd/3 --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev / 2>/dev/null | grep -c .",
  ])
    expect((await m1().run(`exec 3<&0; ${searched}`, root)).stdout.trim(), searched).toBe("0");
  const everywhere =
    "exec 3<&0; grep -rlF -f /dev/fd/3 --exclude-dir=proc --exclude-dir=sys / 2>/dev/null | grep -c .";
  expect((await fleet.op.run(everywhere, root)).stdout.trim()).toBe("0");
}, 240_000);

test("a user outside the operators' group reads nothing of proxies, credentials and keys", async () => {
  const as = { user: "mallory" };
  for (const attempt of [
    "cat /proc/$(pgrep -f bureau-proxy | head -1)/environ",
    "ls /proc/$(pgrep -f bureau-proxy | head -1)/root/ /proc/$(pgrep -f bureau-proxy | head -1)/fd",
    "ls /var/lib/bureau",
    "find /run/bureau -name '*.sock' -exec curl -sf --max-time 2 --unix-socket {} http://proxy/v1/identity ';' | grep .",
    "find /run/bureau -name payload.json | grep .",
  ])
    expect((await m1().run(attempt, as)).code, attempt).not.toBe(0);
});

test("rules are explained on the machine, and the audit chain of what happened holds", async () => {
  const root = { user: "root" };
  await m1().ok("install -d -m 0700 /root/.config/bureau", root);
  for (const name of ["session.json", "credentials"])
    await m1().writeFile(`/root/.config/bureau/${name}`, await fleet.op.ok(`cat .config/bureau/${name}`), {
      mode: 0o600,
    });
  const asked = await m1().run(`${installed} auth check agent/demo interrupt agent/other --json`, root);
  expect(asked.code).toBe(3);
  const { fix } = JSON.parse(asked.stdout) as { fix: string[] };
  expect(fix[0]).toStartWith("bureau auth grant agent/demo interrupt");
  await fleet.do(`auth grant agent/demo matrix/join --machine ${MACHINE} --for 1h`);
  await m1().eventually(`${installed} auth check agent/demo matrix/join`, root);
  const verified = await fleet.json<{ ok: boolean }>(`audit verify --machine ${MACHINE}`);
  expect(verified.ok).toBe(true);
});
