/** Machines leave the fleet (decommissioned, offline or revoked) and rejoin, on both homeservers. */
import { describe, expect, test } from "bun:test";
import { bureau, examine, FLEET, installed, LabFleet } from "./fleet.ts";
import type { Machine } from "./machine.ts";
import { useLab } from "./use-lab.ts";

const POLITE = "trap 'echo bye; sleep 0.3; exit 0' TERM; echo begun; while :; do sleep 0.1; done";

for (const engine of ["embedded", "synapse"] as const)
  describe(`with the homeserver ${engine}`, () => {
    let fleet: LabFleet;
    const lab = useLab(async (opened) => {
      const names = ["m1", "m2", "m3"];
      [fleet] = await Promise.all([LabFleet.open(opened, engine), ...names.map((name) => opened.boot(name))]);
      for (const name of names) {
        await fleet.join(opened.machine(name));
        await fleet.createAgent(name, `polite-${name}`, POLITE);
        await fleet.agentRuns(opened.machine(name), `polite-${name}`);
      }
    });
    const members = async (): Promise<string[]> => {
      const { machines } = await fleet.json<{ machines: { name: string }[] }>(
        `machine list --fleet ${FLEET}`,
      );
      return machines.map(({ name }) => name.split("/").at(-1) ?? "").sort();
    };
    /** Only the launcher and an empty tmux server run, and systemd restarts nothing. */
    const isGone = async (machine: Machine): Promise<void> => {
      await machine.eventually(
        "[ $(systemctl show -P ExecMainStatus bureau-daemon) = 77 ] && ! systemctl is-active -q bureau-daemon",
      );
      expect((await machine.run("pgrep -u bureau -x bwrap")).stdout).toBe("");
      const restarts = await machine.ok("systemctl show -P NRestarts bureau-daemon");
      await machine.ok("sleep 1.5");
      expect(await machine.ok("systemctl show -P NRestarts bureau-daemon")).toBe(restarts);
    };

    test("a decommissioned machine ends its agents with grace and leaves the fleet", async () => {
      const m1 = lab().machine("m1");
      const started = performance.now();
      await fleet.op.ok(`${bureau} machine decommission m1 --fleet ${FLEET} --grace 10s ${fleet.adminFlags}`);
      console.log(`decommissioned in ${((performance.now() - started) / 1000).toFixed(1)} s (${engine})`);
      expect(await m1.ok("cat /var/lib/bureau/last-output/agent+polite-m1.txt")).toContain("bye");
      await isGone(m1);
      expect(await members()).toEqual(["m2", "m3"]);
      const { checks } = await examine(m1);
      const told = checks
        .filter(({ status }) => status === "fail")
        .map(({ found, fix }) => `${found} ${fix ?? ""}`);
      expect(told.join("\n")).toMatch(/uninstall|provision/);
    });

    test("it can rejoin with its name, and runs its new configuration", async () => {
      const m1 = lab().machine("m1");
      await fleet.join(m1);
      await fleet.createAgent("m1", "again", POLITE);
      await fleet.agentRuns(m1, "again");
      expect(await members()).toEqual(["m1", "m2", "m3"]);
    });

    test("an offline machine can be removed, and finds out when it starts", async () => {
      const m2 = lab().machine("m2");
      await m2.shutdown();
      const { code } = await fleet.command(
        `machine decommission m2 --fleet ${FLEET} --offline ${fleet.adminFlags}`,
      );
      expect(code).toBe(0);
      expect(await members()).toEqual(["m1", "m3"]);
      await m2.start();
      await isGone(m2);
    });

    test("a machine that is revoked stops everything within one sync", async () => {
      const m3 = lab().machine("m3");
      const pid = await fleet.agentRuns(m3, "polite-m3");
      const gone = m3.ok(`while kill -0 ${pid} 2>/dev/null; do sleep 0.01; done; date +%s%3N`);
      const started = Number(await m3.ok("date +%s%3N"));
      await fleet.op.ok(`${bureau} machine revoke m3 --fleet ${FLEET} --reason lost ${fleet.adminFlags}`);
      console.log(
        `revoked: its agent was dead ${Number(await gone) - started} ms after the command began (${engine})`,
      );
      await isGone(m3);
      expect(await members()).toEqual(["m1"]);
      expect((await m3.run(`${installed} status`)).code).toBe(1);
    });

    test("a machine that left can be cleaned of every trace", async () => {
      const m3 = lab().machine("m3");
      await m3.ok(`${bureau} machine uninstall --remove-user`);
      for (const path of ["/etc/bureau", "/var/lib/bureau", "/var/bureau", "/run/bureau"])
        expect((await m3.run(`test -e ${path}`)).code).toBe(1);
      expect((await m3.run("getent passwd bureau || getent group bureau bureau-operators")).stdout).toBe("");
    });
  });
