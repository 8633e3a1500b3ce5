/** A bare machine joins with one sudo, and nothing needs root after that, on both homeservers. */
import { describe, expect, test } from "bun:test";
import { bureau, connecting, examine, FLEET, having, installed, LabFleet } from "./fleet.ts";
import { useLab } from "./use-lab.ts";

for (const engine of ["embedded", "synapse"] as const)
  describe(`with the homeserver ${engine}`, () => {
    let fleet: LabFleet;
    const lab = useLab(async (opened) => {
      [fleet] = await Promise.all([LabFleet.open(opened, engine), opened.boot("m1"), opened.boot("m2")]);
    });

    test("a bare machine is in the fleet and runs an agent after one doctor --fix", async () => {
      const m1 = lab().machine("m1");
      const started = performance.now();
      const { seconds, report } = await fleet.join(m1);
      await fleet.createAgent("m1", "first", "echo hello from $HOSTNAME; sleep 10000");
      await fleet.agentRuns(m1, "first");
      const all = (performance.now() - started) / 1000;
      console.log(
        `bare machine → member in ${seconds.toFixed(1)} s, running an agent in ${all.toFixed(1)} s (${engine})`,
      );
      expect(having(report, "fail")).toEqual([]);
      const { machines } = await fleet.json<{ machines: { name: string; public_key: string }[] }>(
        `machine list --fleet ${FLEET}`,
      );
      const listed = machines.find(({ name }) => name === `${FLEET}/machine/m1`);
      expect(listed?.public_key).toStartWith("age1");
    });

    test("a second --fix has nothing to do and needs no sudo", async () => {
      const m1 = lab().machine("m1");
      const before = await m1.listing({ exclude: ["/var/lib/bureau"] });
      await m1.ok("printf 'Defaults logfile=/var/log/sudo.log\\n' > /etc/sudoers.d/log");
      const { stdout, code } = await m1.run(`${bureau} machine doctor --fix --json`, { user: "alice" });
      expect({ code, changes: JSON.parse(stdout).changes }).toEqual({ code: 0, changes: [] });
      expect((await m1.run("test -e /var/log/sudo.log")).code).toBe(1);
      await m1.ok("rm /etc/sudoers.d/log");
      const after = await m1.listing({ exclude: ["/var/lib/bureau"] });
      expect([...after].filter(([path, said]) => before.get(path) !== said)).toEqual([]);
    });

    test("an operator in the group does everything unprivileged; another user gets nothing from any socket", async () => {
      const m1 = lab().machine("m1");
      expect(await m1.ok("id -Gn", { user: "alice" })).toContain("bureau-operators");
      expect(await m1.ok(`${installed} status`, { user: "alice" })).toContain("agent/first");
      // alice copies her session; nothing else of the operator's machine is needed.
      const session = await fleet.op.ok("cat .config/bureau/session.json");
      const credentials = await fleet.op.ok("cat .config/bureau/credentials");
      await m1.ok("umask 077; mkdir -p .config/bureau; cat > .config/bureau/session.json", {
        user: "alice",
        input: session,
      });
      await m1.ok("umask 077; cat > .config/bureau/credentials", { user: "alice", input: credentials });
      const as = { user: "alice" };
      await m1.ok(`${installed} agent create demo --command 'echo hello; sleep 1000'`, as);
      await m1.eventually(`${installed} agent logs demo | grep -qx hello`, as);
      const shown = JSON.parse(await m1.ok(`${installed} agent show demo --json`, as));
      expect(Object.entries(shown.sandbox.layers).filter(([, holds]) => !holds)).toEqual([]);
      await m1.ok(
        `${installed} matrix send bureau/lobby hello && ${installed} matrix messages bureau/lobby`,
        as,
      );
      await m1.ok(`${installed} agent destroy demo`, as);
      const sockets = (await m1.ok("find /run/bureau -type s -o -type l -name '*.sock'")).trim().split("\n");
      expect(sockets.length).toBeGreaterThan(5);
      for (const socket of sockets)
        expect(await m1.run(connecting(socket), { user: "mallory" })).toMatchObject({
          code: 1,
          stderr: expect.stringContaining("EACCES"),
        });
      const mallory = await m1.run(`${installed} status`, { user: "mallory" });
      expect(mallory.code).not.toBe(0);
      expect(mallory.stdout).not.toContain("agent/first");
    });

    test("sockets and folders have the owners and modes of the specification's tables", async () => {
      const m1 = lab().machine("m1");
      const stat = async (path: string): Promise<string> =>
        (await m1.ok(`stat --format='%U:%G %a' ${path}`)).trim();
      expect(await stat("/run/bureau/launcher.sock")).toBe("bureau:bureau 660");
      expect(await stat("/run/bureau/observe.sock")).toBe("bureau:bureau-operators 660");
      expect(await stat("/run/bureau/tmux.sock")).toMatch(/^bureau:bureau (700|600)$/);
      const fleetDir = "/run/bureau/fleet/prod";
      expect(await stat(`$(readlink -f ${fleetDir}/agent/first.proxy.sock)`)).toBe("bureau:bureau 660");
      expect(await stat(`${fleetDir}/agent/first.admin.sock`)).toBe("bureau:bureau 660");
      expect(await stat(`${fleetDir}/sandbox`)).toBe("bureau:bureau 755");
      expect(await stat("/etc/bureau")).toBe("root:root 755");
      expect(await stat("/run/bureau")).toBe("bureau:bureau-operators 750");
      expect(await stat("/var/lib/bureau")).toBe("bureau:bureau 700");
      expect(await stat("/var/bureau/workspace")).toBe("bureau:bureau 755");
      expect(await stat("/var/bureau/cache")).toBe("bureau:bureau 755");
    });

    test("a service's socket is open to operators, and its folder is not readable for them", async () => {
      const m1 = lab().machine("m1");
      // With the mode of the unit's umask, which gives the group no access.
      const serve = `require("node:net").createServer((s) => s.end("tick")).listen("/run/bureau/listen/service.sock");`;
      await fleet.op.ok("cat > clock.js", { input: serve });
      await fleet.op.ok(
        `${bureau} agent create service/clock --machine ${FLEET}/machine/m1 --template bureau/template:service --command "exec /run/bureau/programs/runtime/bun -e '$(cat clock.js)'"`,
      );
      const socket = "/run/bureau/fleet/prod/service/clock.sock";
      // Its proxy listens from the start, the program a moment later.
      await m1.eventually(`${connecting(socket)} | grep tick`);
      expect(await m1.ok(connecting(socket), { user: "alice" })).toContain("said: tick");
      expect((await m1.ok(`stat --format='%G %a' $(readlink -f ${socket})`)).trim()).toBe(
        "bureau-operators 660",
      );
      const sockets = (await examine(m1)).checks.find(({ id }) => id === "service-sockets");
      expect(sockets).toMatchObject({ status: "pass", found: "1 answer" });
      const folder = "/run/bureau/fleet/prod/sandbox/service+clock";
      expect((await m1.ok(`stat --format='%G %a' ${folder}/inside/listen`)).trim()).toBe(
        "bureau-operators 2750",
      );
      for (const look of [`ls ${folder}`, `ls ${folder}/inside`, `cat ${folder}/inside/payload.json`])
        expect((await m1.run(look, { user: "alice" })).code).not.toBe(0);
    });

    test("the machine's key is sealed and never in clear on the disk, and its programs are not readable", async () => {
      const m1 = lab().machine("m1");
      expect(
        (await m1.run("grep -rIlE AGE-SECRET-KEY-1[A-Z0-9]{50} /etc /var /root /home /run/bureau /tmp"))
          .stdout,
      ).toBe("");
      const report = await examine(m1);
      expect(report.checks.find(({ id }) => id === "machine-key")?.found).toMatch(/host|tpm2/i);
      for (const [unit, most] of [
        ["bureau-daemon", 2.5],
        ["bureau-launcher", 2.5],
        ["bureau-proxy@x", 2.5],
        ["bureau-terminals", 4],
      ] as const) {
        const said = await m1.ok(`systemd-analyze security --no-pager ${unit}.service`);
        const level = Number(/exposure level for \S+: ([\d.]+)/.exec(said)?.[1]);
        console.log(`systemd-analyze security ${unit}: ${level}`);
        expect(level).toBeLessThanOrEqual(most);
      }
      const pid = (await m1.ok("systemctl show -P MainPID bureau-launcher")).trim();
      expect((await m1.run(`cat /proc/${pid}/environ`, { user: "bureau" })).code).not.toBe(0);
      // An empty network of its own.
      const links = await m1.ok(`nsenter -t ${pid} -n ip -o link`);
      expect(links.trim().split("\n")).toHaveLength(1);
    });

    test("each sandbox has a control group of its own below the tmux server's unit, removed with the sandbox", async () => {
      const m1 = lab().machine("m1");
      const unit = "/sys/fs/cgroup/bureau.slice/bureau-terminals.service";
      const pid = await fleet.agentRuns(m1, "first");
      expect(await m1.ok(`cat /proc/${pid}/cgroup`)).toContain(
        "/bureau.slice/bureau-terminals.service/agent+first",
      );
      expect((await m1.ok(`stat --format='%U' ${unit}/agent+first`)).trim()).toBe("bureau");
      expect(await m1.ok(`cat $(printf '/proc/%s/comm ' $(cat ${unit}/terminals/cgroup.procs))`)).toContain(
        "tmux",
      );
      const check = (await examine(m1)).checks.find(({ id }) => id === "resource-limits");
      // Where the lab's host has controllers, all is enforced.
      const controllers = await m1.ok("cat /sys/fs/cgroup/cgroup.controllers");
      expect(check?.status).toBe(/memory/.test(controllers) ? "pass" : "warn");
      await m1.ok(`echo 1 > ${unit}/agent+first/cgroup.kill`);
      await fleet.agentRuns(m1, "first", pid);
    });

    test("systemd-analyze accepts the units", async () => {
      const m1 = lab().machine("m1");
      expect(await m1.run("systemd-analyze verify /etc/systemd/system/bureau*")).toMatchObject({
        code: 0,
        stderr: "",
      });
      expect(await m1.ok("systemctl --failed --no-legend")).toBe("");
    });
  });
