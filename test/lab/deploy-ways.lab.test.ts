/** The ways to deploy a host: as root or with sudo, by an archive or by Nix, without ssh, interrupted six times. */
import { expect, test } from "bun:test";
import { bureau, FLEET, LabFleet } from "./fleet.ts";
import { diffListings } from "./listing.ts";
import type { Machine } from "./machine.ts";
import { useLab } from "./use-lab.ts";

type Deployed = {
  readonly machine: string;
  readonly seconds: number;
  readonly unchanged: boolean;
  readonly steps: readonly { readonly name: string; readonly seconds: number; readonly skipped?: boolean }[];
};

let fleet: LabFleet;
const names = ["d1", "d2", "d3", "d4"] as const;
const lab = useLab(async (opened) => {
  [fleet] = await Promise.all([
    LabFleet.open(opened, "embedded"),
    ...names.map((name) => opened.boot(name, { image: name === "d2" ? "nix" : "plain" })),
  ]);
  // alice's key opens root on every machine, and alice herself.
  await fleet.op.ok("mkdir -p -m 700 .ssh && ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519");
  const key = await fleet.op.ok("cat .ssh/id_ed25519.pub");
  for (const machine of opened.machines()) {
    for (const [home, owner] of [
      ["/root", "root:root"],
      ["/home/alice", "alice:alice"],
    ] as const)
      await machine.ok(
        `mkdir -p -m 700 ${home}/.ssh && cat >> ${home}/.ssh/authorized_keys && chown -R ${owner} ${home}/.ssh && chmod 600 ${home}/.ssh/authorized_keys`,
        { user: "root", input: key },
      );
    if (machine.name !== "op")
      await fleet.op.ok(`ssh-keyscan -t ed25519 ${machine.name} >> .ssh/known_hosts`);
  }
});

const deploy = async (target: string, name: string, flags = ""): Promise<Deployed> =>
  await fleet.json<Deployed>(`machine deploy ${target} --fleet ${FLEET} --machine-name ${name} ${flags}`, {
    timeoutMs: 300_000,
  });

async function runsAnAgent(machine: Machine): Promise<void> {
  await fleet.createAgent(machine.name, `on-${machine.name}`, "echo hello; sleep 10000");
  await fleet.agentRuns(machine, `on-${machine.name}`);
}

const tell = (what: string, { seconds, steps }: Deployed): void =>
  console.log(
    `deploy ${what}: ${seconds} s (${steps.map((step) => `${step.name} ${step.seconds}`).join(", ")})`,
  );

test("over ssh as root: from nothing to a running agent", async () => {
  const deployed = await deploy("ssh://root@d1", "d1");
  tell("as root, by an archive", deployed);
  expect(deployed.machine).toBe(`${FLEET}/machine/d1`);
  await runsAnAgent(lab().machine("d1"));
});

test("where both have Nix, by store paths", async () => {
  const d2 = lab().machine("d2");
  const desk = await lab().boot("desk", { image: "nix", user: "alice" });
  // The operator's machine has Nix too, so alice's files are copied to it.
  const files = await fleet.op.ok("tar c .ssh .config | base64 -w0");
  await desk.ok("base64 -d | tar x", { input: files });
  const deployed = await desk.json<Deployed>(
    `${bureau} machine deploy ssh://root@d2 --fleet ${FLEET} --machine-name d2 --json`,
    { timeoutMs: 300_000 },
  );
  tell("as root, by Nix", deployed);
  expect(await d2.ok("readlink /var/bureau/programs/current")).toStartWith("/nix/store/");
  expect(await d2.ok("nix-store --gc --print-roots | grep -c bureau")).not.toBe("0\n");
  await runsAnAgent(d2);
});

test("over ssh as a user with sudo, who becomes the operator there; run again it changes nothing", async () => {
  const d3 = lab().machine("d3");
  const deployed = await deploy("ssh://alice@d3", "d3");
  tell("as alice, with sudo", deployed);
  expect(await d3.ok("id -Gn", { user: "alice" })).toContain("bureau-operators");
  const pid = (await d3.ok("systemctl show -P MainPID bureau-daemon")).trim();
  const again = await deploy("ssh://alice@d3", "d3");
  tell("again", again);
  expect(again.unchanged).toBe(true);
  expect((await d3.ok("systemctl show -P MainPID bureau-daemon")).trim()).toBe(pid);
  await runsAnAgent(d3);
});

test("interrupted at any point and run again, it continues", async () => {
  const d4 = lab().machine("d4");
  const command = `${bureau} machine deploy ssh://root@d4 --fleet ${FLEET} --machine-name d4`;
  for (const afterMs of [400, 800, 1_200, 1_700, 2_300, 3_000])
    await fleet.op.run(`timeout --signal=KILL ${afterMs / 1000} ${command}`);
  const deployed = await deploy("ssh://root@d4", "d4");
  tell("after six that were cut off", deployed);
  await runsAnAgent(d4);
  expect((await d4.ok("ls -d /var/tmp/bureau-* 2>/dev/null || true")).trim()).toBe("");
});

test("reports the faults of a host before it changes anything there", async () => {
  const bare = await lab().boot("bare");
  await bare.ok("mkdir -p -m 700 /root/.ssh; cat > /root/.ssh/authorized_keys", {
    input: await fleet.op.ok("cat .ssh/id_ed25519.pub"),
  });
  await fleet.op.ok("ssh-keyscan -t ed25519 bare >> .ssh/known_hosts");
  const before = await bare.listing({ exclude: ["/home/mallory"] });
  const wrong = await fleet.command(
    `machine deploy ssh://root@bare --fleet ${FLEET} --homeserver http://10.99.0.250:6167`,
  );
  expect(wrong.code).toBe(1);
  expect(wrong.stderr).toContain("10.99.0.250");
  const refused = await fleet.command(`machine deploy ssh://mallory@bare --fleet ${FLEET}`);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain("mallory");
  expect(diffListings(before, await bare.listing({ exclude: ["/home/mallory"] }))).toEqual([]);
});

test("deploys this host itself without ssh", async () => {
  const own = await lab().boot("own", { user: "alice" });
  const files = await fleet.op.ok("tar c .config | base64 -w0");
  await own.ok("base64 -d | tar x", { input: files });
  const deployed = await own.json<Deployed>(
    `${bureau} machine deploy local --fleet ${FLEET} --machine-name own --json`,
    { timeoutMs: 300_000 },
  );
  tell("local", deployed);
  await runsAnAgent(own);
});
