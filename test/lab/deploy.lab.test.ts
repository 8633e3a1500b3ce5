/** One command on the operator's machine makes a bare host a machine of the fleet, over ssh, and can be repeated. */
import { describe, expect, test } from "bun:test";
import type { DoctorJson } from "@bureau/cli/machine/doctor-report";
import { FLEET, having, LabFleet } from "./fleet.ts";
import type { Machine } from "./machine.ts";
import { useLab } from "./use-lab.ts";

type Deployed = {
  readonly machine: string;
  readonly unchanged: boolean;
  readonly seconds: number;
  readonly steps: readonly { readonly name: string; readonly skipped?: true; readonly detail: string }[];
};

const FAR = { timeoutMs: 180_000 };
let fleet: LabFleet;

/** Lets alice of `op` in as root and as alice. */
async function letIn(machine: Machine): Promise<void> {
  const key = await fleet.op.ok(
    "test -e .ssh/id_ed25519 || ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519; cat .ssh/id_ed25519.pub",
  );
  for (const home of ["/root", "/home/alice"])
    await machine.ok(`install -d -m 700 ${home}/.ssh; cat > ${home}/.ssh/authorized_keys`, {
      user: home === "/root" ? "root" : "alice",
      input: key,
    });
}

const deployTo = (target: string, flags = ""): string =>
  `machine deploy ${target} --fleet ${FLEET} --ssh-option StrictHostKeyChecking=accept-new ${fleet.adminFlags} ${flags}`;
const step = (deployed: Deployed, name: string) => deployed.steps.find((one) => one.name === name);

for (const engine of ["embedded", "synapse"] as const)
  describe(`with the homeserver ${engine}`, () => {
    const lab = useLab(async (opened) => {
      [fleet] = await Promise.all([
        LabFleet.open(opened, engine),
        ...["m1", "m2", "m3"].map((name) => opened.boot(name)),
      ]);
      await fleet.op.ok("install -d -m 700 .ssh");
      for (const name of ["m1", "m2", "m3"]) await letIn(opened.machine(name));
    });

    test("a dry run changes nothing and prints its actions", async () => {
      const m1 = lab().machine("m1");
      const before = await m1.listing();
      const { stdout, code } = await fleet.command(deployTo("ssh://root@m1", "--dry-run"), FAR);
      expect(code).toBe(0);
      expect(stdout).toContain(`can become ${FLEET}/machine/m1`);
      const after = await m1.listing();
      expect([...after.keys()].filter((path) => path.includes("bureau"))).toEqual(
        [...before.keys()].filter((path) => path.includes("bureau")),
      );
    });

    test("a bare host is a machine of the fleet after one deploy as root, and runs an agent", async () => {
      const m1 = lab().machine("m1");
      const deployed = await fleet.json<Deployed>(deployTo("ssh://root@m1"), FAR);
      console.log(
        `bare host → heartbeat in ${deployed.seconds} s (${engine}): ${deployed.steps
          .map(({ name, detail }) => `${name}: ${detail}`)
          .join("; ")}`,
      );
      expect(deployed.machine).toBe(`${FLEET}/machine/m1`);
      expect(deployed.unchanged).toBe(false);
      await fleet.createAgent("m1", "first", "echo hello; sleep 10000");
      await fleet.agentRuns(m1, "first");
      expect((await m1.ok("ls /var/tmp")).includes("bureau-deploy")).toBe(false);
      expect((await fleet.op.ok("ls .local/state/bureau/deploy")).includes(".json")).toBe(false);
    });

    test("a second run finds everything in place", async () => {
      const again = await fleet.json<Deployed>(deployTo("ssh://root@m1"), FAR);
      expect(again.unchanged).toBe(true);
      for (const name of ["provision", "programs", "doctor", "heartbeat"])
        expect(step(again, name)?.skipped, name).toBe(true);
    });

    test("interrupted while it sends the programs, it continues as a user with sudo", async () => {
      const m2 = lab().machine("m2");
      const cutOff = fleet.command(deployTo("ssh://alice@m2"), FAR);
      await m2.eventually("ls -d /var/tmp/bureau-deploy-*");
      await fleet.op.ok("pkill -KILL -f 'machine deploy ssh://alice@m2'");
      expect((await cutOff).code).not.toBe(0);
      const deployed = await fleet.json<Deployed>(deployTo("ssh://alice@m2"), FAR);
      expect(step(deployed, "provision")?.detail).toContain("provisioned already");
      const { stdout } = await fleet.command(`machine list --fleet ${FLEET}`);
      expect(stdout).toContain("machine/m2");
      const groups = await m2.ok("id -nG alice");
      expect(groups).toContain("bureau-operators");
    });

    test("refuses the name of another joined host before it changes anything", async () => {
      const taken = await fleet.command(deployTo("ssh://root@m3", "--machine-name m1 --json"), FAR);
      expect(taken.code).toBe(1);
      expect(JSON.parse(taken.stdout)).toMatchObject({ code: "conflict" });
      expect((await lab().machine("m3").run("test -e /etc/bureau")).code).toBe(1);
    });

    test("refuses a host that is already another machine at once", async () => {
      const lost = await fleet.command(
        deployTo("ssh://root@m1", "--machine-name other --dry-run --json"),
        FAR,
      );
      expect(lost.code).toBe(1);
      expect(lost.stdout).toContain("has joined a fleet already");
    });

    test("doctor on another machine prints what it would print there, with its exit code", async () => {
      const ssh = "--ssh-option StrictHostKeyChecking=accept-new";
      const report = await fleet.json<DoctorJson>(`machine doctor ssh://root@m1 ${ssh}`, FAR);
      expect(having(report, "fail")).toEqual([]);
      const bare = await fleet.command(`machine doctor ssh://root@m3 ${ssh}`, FAR);
      expect(bare.code).not.toBe(0);
      expect(bare.stderr).toContain("bureau machine deploy ssh://root@m3");
      await lab().machine("m1").ok("chmod 777 /var/bureau/workspace");
      const broken = await fleet.command(`machine doctor ssh://alice@m1 ${ssh} --json`, FAR);
      expect(broken.code).toBe(1);
      const fixed = await fleet.command(`machine doctor ssh://alice@m1 ${ssh} --fix --json`, FAR);
      expect(fixed.code).toBe(0);
      expect(having(JSON.parse(fixed.stdout) as DoctorJson, "fail")).toEqual([]);
    });
  });
