/**
 * How machines join and leave a fleet, by a person without an instance: every step is a command,
 * every machine a real launcher and daemon, on every kind of homeserver.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { login, registerWithToken } from "@bureau/matrix/auth";
import { ServerAdmin } from "@bureau/matrix/server-admin";
import { MatrixSession } from "@bureau/matrix/session";
import { egressFetch } from "@bureau/os/egress";
import { exitCodes } from "@bureau/os/lifecycle";
import { findInhabitants } from "@bureau/os/mounts";
import { findByArguments, isAlive, type ProcessId } from "@bureau/os/process-table";
import { readOperatorSession } from "@bureau/os/session-file";
import { eventTypes } from "@bureau/schema/events";
import {
  aliasOf,
  type Localpart,
  parseMachine,
  parseServerName,
  stateKeyOf,
  userIdOf,
} from "@bureau/schema/refs";
import { eventually } from "@bureau/testkit/use-bureau";
import { openTerminal } from "../../packages/cli/src/command/terminal.ts";
import { decommissionMachine } from "../../packages/control/src/machines/decommission.ts";
import { Host } from "./host.ts";
import { matrixSetup, Person } from "./person.ts";

setDefaultTimeout(120_000);

/** What the tests need of a homeserver. */
export type MembershipHomeserver = AsyncDisposable & {
  readonly url: string;
  readonly serverName: string;
  readonly registrationToken: string;
  /** Token of a server admin; undefined where the first account, which the setup creates, is one. */
  readonly adminToken?: string;
};

const fleet = "bureau/fleet/prod";

type Removed = {
  ok: boolean;
  drain: string;
  stopped: number | null;
  account: string;
  removed_from: string[];
  still_in: string[];
  agents: { user_id: string; account: string }[];
  problems: string[];
};
type Machines = { machines: { name: string; last_seen?: string; sandboxes?: number }[] };

export function defineMembership(name: string, start: () => Promise<MembershipHomeserver>): void {
  describe(`membership of machines on ${name}`, () => {
    const person = new Person();
    let homeserver: MembershipHomeserver;
    let host: Host;
    let admin: string[] = [];
    const tokenFile = join(person.dir, "token");

    const setup = (...more: string[]) => person.json(...matrixSetup(homeserver.url, tokenFile, ...more));
    const provision = (machine: string, ...more: string[]) =>
      person.json<{ account: string; bootstrap_file: string; expires_at: string | null }>(
        ...["machine", "provision", machine, "--fleet", fleet, ...more],
      );
    const stateOf = async (localpart: string, type: string, machine = host.machine): Promise<unknown> => {
      const session = person.session();
      const server = parseServerName(homeserver.serverName);
      const room = await session.resolveAlias(aliasOf(localpart as Localpart, server));
      if (room === undefined) throw new Error(`no room ${localpart}`);
      return (await session.stateEvent(room, type, stateKeyOf(userIdOf(parseMachine(machine), server))))
        ?.content;
    };
    const isListed = async (wanted: string): Promise<boolean> =>
      (await person.json<Machines>("machine", "list", fleet)).machines.some((one) => one.name === wanted);
    const isUp = () =>
      eventually(
        async () =>
          (await person.json<Machines>("machine", "list", fleet)).machines.find(
            (one) => one.name === host.machine && one.last_seen !== undefined,
          ),
        { describe: () => host.logText("daemon") + host.logText("launcher") },
      );
    /** Starts an agent there; returns its pid on the host. */
    const runAgent = async (agent: string): Promise<void> => {
      await person.json(
        "agent",
        "create",
        agent,
        "--machine",
        host.machine,
        "--command",
        "echo up; sleep 1000",
      );
      await eventually(async () => (sandboxPids(host).length > 0 ? true : undefined), {
        describe: () => host.logText("daemon"),
      });
    };

    /** A principal with a password that only its creator knows, and credentials for the machine. */
    const agentOfOthers = async (agent: string): Promise<MatrixSession> => {
      const { registrationToken, url, serverName } = homeserver;
      const username = `${fleet}/agent/${agent}`;
      const made = await registerWithToken({
        fetch: egressFetch,
        homeserver: url,
        registrationToken,
        username,
        password: "known to its maker",
      });
      if (made.inUse) throw new Error(`${username} is in use`);
      const session = person.session();
      const room = await session.resolveAlias(
        aliasOf(host.machine as Localpart, parseServerName(serverName)),
      );
      if (room === undefined) throw new Error(`no room of ${host.machine}`);
      await session.putState(room, eventTypes.credentials, `${username}:${serverName}`, { version: 1 });
      return new MatrixSession({
        fetch: egressFetch,
        homeserver: url,
        userId: made.userId,
        token: made.token,
      });
    };

    beforeAll(async () => {
      homeserver = await start();
      host = new Host("box", homeserver.serverName, fleet);
      writeFileSync(tokenFile, `${homeserver.registrationToken}\n`, { mode: 0o600 });
      if (homeserver.adminToken !== undefined) {
        const file = join(person.dir, "admin-token");
        writeFileSync(file, homeserver.adminToken, { mode: 0o600 });
        admin = ["--admin-token-file", file];
      }
    });
    afterAll(async () => {
      await host[Symbol.asyncDispose]();
      await homeserver[Symbol.asyncDispose]();
      rmSync(person.dir, { recursive: true, force: true });
    });

    test("sets up a namespace; a second run changes nothing", async () => {
      const first = await setup();
      expect(first["session_written"]).toBe(true);
      expect(statSync(person.credentials).mode & 0o777).toBe(0o600);
      expect(statSync(person.sessionFile).mode & 0o777).toBe(0o600);
      const text = readFileSync(person.credentials, "utf8");
      for (const key of ["SPACE", "SYSTEM", "TEMPLATE", "PIPELINE", "ARTIFACT", "DEV_TEAM"])
        expect(text).toMatch(new RegExp(`^MATRIX_${key}_ROOM=![^ ]+$`, "m"));
      const again = await setup();
      expect(again).toEqual({ ...first, session_written: false, templates_published: [] });
      expect(readFileSync(person.credentials, "utf8")).toBe(text);
    });

    test("refuses a wrong registration token or an unexpected server, with the next step", async () => {
      const file = join(person.dir, "wrong");
      writeFileSync(file, "wrong");
      const base = [
        "matrix",
        "setup",
        "--homeserver",
        homeserver.url,
        "--credential-file",
        join(person.dir, "x"),
      ];
      const wrong = await person.run(...base, "--registration-token-file", file, "--admin-user", "another");
      expect(wrong.code).toBe(1);
      expect(wrong.stderr).toContain("→");
      const other = await person.run(
        ...[...base, "--registration-token-file", tokenFile, "--server-name", "elsewhere.org"],
      );
      expect(other.code).toBe(1);
      expect(other.stderr).toContain(`calls itself "${homeserver.serverName}"`);
    });

    test("reads an older credential file without rooms", async () => {
      const file = join(person.dir, "old-credentials");
      const kept = readFileSync(person.credentials, "utf8")
        .split("\n")
        .filter((line) => !line.includes("_ROOM="));
      writeFileSync(file, kept.join("\n"), { mode: 0o600 });
      expect((await person.run("whoami", "--credential-file", file)).code).toBe(0);
    });

    test("creates a fleet once, and lists it", async () => {
      const first = await person.json("fleet", "create", fleet);
      expect(await person.json("fleet", "create", fleet)).toEqual(first);
      expect(await person.json("fleet", "list")).toEqual({
        fleets: [{ fleet, room_id: first["fleet_room"], machines: 0 }],
      });
      const orphan = await person.run("fleet", "create", "nowhere/fleet/x");
      expect(orphan.code).toBe(1);
      expect(orphan.stderr).toContain("bureau matrix setup");
    });

    test("a person gets an account, logs in with its password, and sees the rooms of an operator", async () => {
      const file = join(person.dir, "password");
      writeFileSync(file, "correct horse battery\n");
      const [of, as] = [
        ["--fleet", fleet],
        ["--password-file", file],
      ];
      const alice = await person.json<{ user_id: string; rooms: string[] }>(
        ...["matrix", "user", "create", "alice", ...of, ...as],
      );
      const bob = await person.json<{ user_id: string; rooms: string[] }>(
        ...["matrix", "user", "create", "bob", "--operator", ...of, ...as],
      );
      expect([alice.user_id, alice.rooms.length]).toEqual([`@alice:${homeserver.serverName}`, 2]);
      expect(bob.rooms).toHaveLength(10);
      const { users } = await person.json<{ users: { user_id: string }[] }>(
        ...["matrix", "user", "list", ...of, ...admin],
      );
      expect(users.map(({ user_id }) => user_id)).toEqual(
        expect.arrayContaining([alice.user_id, bob.user_id, person.session().userId]),
      );
      const again = await person.run("matrix", "user", "create", "alice", ...of, ...as);
      expect([again.code, again.stderr]).toEqual([1, expect.stringContaining("There is an account")]);
      expect((await person.run("matrix", "user", "create", "a/b", ...of, ...as)).stderr).toContain(
        "is not a person's name",
      );
      expect((await person.run("matrix", "user", "invite", "alcie", ...of)).stderr).toContain(
        "There is no account",
      );
      expect(
        await person.json<{ invited: string[] }>("matrix", "user", "invite", "bob", "--operator", ...of),
      ).toMatchObject({ invited: [] });

      const other = new Person();
      const where = ["--homeserver", homeserver.url, ...as];
      for (const [name, code] of [
        ["alice", 1],
        ["bob", 0],
      ] as const) {
        expect((await other.run("login", name, ...where)).code).toBe(0);
        expect((await other.json("whoami"))["user_id"]).toBe(`@${name}:${homeserver.serverName}`);
        const sent = ["matrix", "state", "set", `${fleet}`, "m.room.topic", '{"topic":"ours"}'];
        const result = await other.run(...sent);
        expect(result.code).toBe(code);
        // A refusal names the act, the value, and the next command.
        if (code === 1) {
          expect(result.stderr).toContain(`Cannot write m.room.topic in #${fleet}:${homeserver.serverName}`);
          expect(result.stderr).toContain("M_FORBIDDEN");
          expect(result.stderr).toContain("bureau whoami shows");
        }
      }
      // A person invited later accepts with a command and then has the same rights.
      expect(
        (await person.json<{ invited: string[] }>("matrix", "user", "invite", "alice", "--operator", ...of))
          .invited,
      ).toHaveLength(8);
      expect((await other.run("login", "alice", ...where)).code).toBe(0);
      const { invitations } = await other.json<{ invitations: { alias: string; invited_by: string }[] }>(
        ...["matrix", "room", "join"],
      );
      expect(invitations).toHaveLength(8);
      expect(new Set(invitations.map((one) => one.invited_by))).toEqual(new Set([person.session().userId]));
      await other.json("matrix", "room", "join", fleet);
      expect(
        (await other.run("matrix", "state", "set", fleet, ...["m.room.topic", '{"topic":"joined"}'])).code,
      ).toBe(0);
      rmSync(other.dir, { recursive: true, force: true });
    });

    test("without an instance the commands ask for the fleet, and work with --fleet", async () => {
      const unsaid = await person.run("machine", "list");
      expect(unsaid.code).toBe(1);
      expect(unsaid.stderr).toContain("--fleet");
      expect((await person.json<Machines>("machine", "list", "--fleet", fleet)).machines).toEqual([]);
      expect((await person.run("template", "list")).stdout).toContain("greeter");
    });

    test("provisions a machine to a file, by default in the current folder; prints nothing else to standard output", async () => {
      const made = await provision("other", "--expires", "24h");
      expect(made).toMatchObject({
        account: "created",
        bootstrap_file: join(person.dir, "bootstrap-other.json"),
      });
      expect(statSync(made.bootstrap_file).mode & 0o777).toBe(0o600);
      const left = Date.parse(made.expires_at ?? "") - Date.now();
      expect(left).toBeGreaterThan(86_000_000);
      expect(left).toBeLessThanOrEqual(86_400_000);
      expect((await provision("other")).account).toBe("resumed");

      const piped = await person.run("machine", "provision", `${fleet}/machine/piped`, "--output", "-");
      expect(piped.code).toBe(0);
      expect(JSON.parse(piped.stdout)).toMatchObject({
        machine_name: `${fleet}/machine/piped`,
        password: expect.stringMatching(/^[0-9a-f]{64}$/),
      });
      expect(readdirSync(person.dir).filter((file) => file.includes("piped"))).toEqual([]);
      const foreign = await person.run(
        ...["machine", "provision", "third", "--fleet", fleet, "--output", made.bootstrap_file],
      );
      expect(foreign.code).toBe(1);
      expect(foreign.stderr).toContain("is the bootstrap file of another machine");
    });

    test("a lost unused file: a server admin sets another password", async () => {
      const lost = join(person.dir, "bootstrap-other.json");
      const before = JSON.parse(readFileSync(lost, "utf8")).password;
      rmSync(lost);
      if (admin.length > 0) {
        const refused = await person.run("machine", "provision", "other", "--fleet", fleet);
        expect(refused.code).toBe(1);
        expect(refused.stderr).toContain("--admin-token-file");
        expect(existsSync(lost)).toBe(false);
      }
      expect((await provision("other", ...admin)).account).toBe("reissued");
      const { password } = JSON.parse(readFileSync(lost, "utf8"));
      expect(password).not.toBe(before);
      const user = `${fleet}/machine/other`;
      expect(
        login({ fetch: egressFetch, homeserver: homeserver.url, user, password: before }),
      ).rejects.toThrow();
      await login({ fetch: egressFetch, homeserver: homeserver.url, user, password });
    });

    test("an expired file is replaced with the password in it, without a server admin", async () => {
      const file = join(person.dir, "bootstrap-late.json");
      await provision("late", "--expires", "1ms");
      const before = readFileSync(file, "utf8");
      expect((await provision("late", "--expires", "1h")).account).toBe("reissued");
      expect(JSON.parse(readFileSync(file, "utf8")).password).not.toBe(JSON.parse(before).password);
    });

    test("the real launcher joins with the file once and deletes it; a copy is refused as used", async () => {
      await provision("box", "--output", host.bootstrap);
      copyFileSync(host.bootstrap, join(host.dir, "copy.json"));
      expect(await host.firstBoot()).toBe(0);
      expect(existsSync(host.bootstrap)).toBe(false);
      expect(await isListed(host.machine)).toBe(true);

      await using thief = new Host("box", homeserver.serverName, fleet);
      expect(await thief.firstBoot(join(host.dir, "copy.json"))).toBe(exitCodes.failed);
      expect(thief.logText("launcher")).toContain("was used already");
      expect(existsSync(join(thief.dir, "s/session.json"))).toBe(false);
    });

    test("a joined machine cannot be provisioned again before it leaves", async () => {
      const refused = await person.run(
        ...["machine", "provision", "box", "--fleet", fleet, "--output", host.bootstrap, ...admin],
      );
      expect(refused.code).toBe(1);
      expect(refused.stderr).toContain(`bureau machine decommission ${host.machine}`);
      expect(existsSync(host.bootstrap)).toBe(false);
    });

    test("an unknown machine is not found, and the error lists the known ones", async () => {
      for (const verb of ["decommission", "revoke"]) {
        const unknown = await person.run("machine", verb, "bix", "--fleet", fleet);
        expect(unknown.code).toBe(1);
        expect(unknown.stderr).toContain(`There is no machine "${fleet}/machine/bix"`);
        expect(unknown.stderr).toContain(host.machine);
      }
    });

    test("--purge by a server admin closes the account of an agent that another person created", async () => {
      const foreign = await agentOfOthers("theirs");
      const destroy = ["agent", "destroy", "theirs", "--machine", host.machine, "--purge", "--no-wait"];
      if (admin.length > 0) {
        const refused = await person.run(...destroy);
        expect(refused.code).toBe(1);
        expect(refused.stderr).toContain("--admin-token-file");
      }
      await person.json(...destroy, ...admin);
      await expect(foreign.whoami()).rejects.toMatchObject({ code: "unauthorized" });
    });

    test("a decommissioned machine stops its agents, reports that, exits permanently, and leaves all rooms", async () => {
      const daemon = await host.startBoth();
      await isUp();
      await runAgent("demo");
      const gone = await person.json<Removed>(
        "machine",
        "decommission",
        host.machine,
        "--grace",
        "5s",
        ...admin,
      );
      expect(gone).toMatchObject({
        ok: true,
        drain: "confirmed",
        stopped: 1,
        account: "locked",
        problems: [],
      });
      expect(gone.agents).toEqual([
        { user_id: `@${fleet}/agent/demo:${homeserver.serverName}`, account: "kept" },
      ]);
      expect(gone.removed_from).toContain(host.machine);
      expect(await daemon.exited).toBe(exitCodes.revoked);
      expect(sandboxPids(host)).toEqual([]);
      expect(await isListed(host.machine)).toBe(false);
      for (const [room, type] of [
        [`${fleet}/machine`, eventTypes.machineKey],
        [`${fleet}/machine`, eventTypes.machineStatus],
        [`${fleet}/machine`, eventTypes.machineInfo],
        [host.machine, eventTypes.machineConfig],
        [host.machine, eventTypes.machineDecommission],
        [host.machine, eventTypes.machineDecommissioned],
      ] as const)
        expect([type, await stateOf(room, type)]).toEqual([type, {}]);
    });

    test("a second run has nothing to do, but can still purge its agents", async () => {
      const again = await person.json<Removed>(
        ...["machine", "decommission", host.machine, "--purge-agents", ...admin],
      );
      expect(again).toMatchObject({ ok: true, drain: "not-asked", removed_from: [], problems: [] });
      expect(again.agents.map(({ account }) => account)).toEqual(["closed"]);
      const third = await person.json<Removed>("machine", "decommission", host.machine, ...admin);
      expect(third.agents.map(({ account }) => account)).toEqual(["closed"]);
    });

    test("it rejoins when provisioned again, with another key, in the same folders", async () => {
      const key = readFileSync(join(host.dir, "s/machine-key.pub"), "utf8");
      await host.stop();
      expect((await provision("box", "--output", host.bootstrap, ...admin)).account).toBe("reissued");
      await host.startBoth();
      await isUp();
      expect(readFileSync(join(host.dir, "s/machine-key.pub"), "utf8")).not.toBe(key);
      expect(existsSync(host.bootstrap)).toBe(false);
      await runAgent("second");
      await host.stop();
    });

    test("a machine that does not answer stays, unless --force allows its removal", async () => {
      const session = person.session();
      const stored = readOperatorSession(person.sessionFile);
      const ask = (force: boolean) =>
        decommissionMachine({
          session,
          machine: parseMachine(host.machine),
          graceSeconds: 0,
          offline: false,
          force,
          answerMs: 300,
          admin: new ServerAdmin({
            fetch: egressFetch,
            homeserver: homeserver.url,
            token: homeserver.adminToken ?? stored.token,
          }),
          steps: openTerminal({}),
          clock: systemClock,
        });
      const error = await ask(false).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: "timeout", hint: expect.stringMatching(/--force.*--offline/) });
      expect(await isListed(host.machine)).toBe(true);
      expect(await ask(true)).toMatchObject({ drain: "no-answer", still_in: [], account: "locked" });

      const daemon = await host.startBoth();
      expect(await daemon.exited).toBe(exitCodes.revoked);
      expect(sandboxPids(host)).toEqual([]);
      await host.stop();
    });

    test("a revoked machine's sandboxes end at once, and the record says who, what and why", async () => {
      await provision("box", "--output", host.bootstrap, ...admin);
      const daemon = await host.startBoth();
      await isUp();
      await runAgent("third");
      const foreign = await agentOfOthers("foreign");
      const pids = sandboxPids(host);
      const began = performance.now();
      const revoking = person.json<Removed>(
        "machine",
        "revoke",
        host.machine,
        "--reason",
        "stolen",
        ...admin,
      );
      await eventually(async () => (pids.some(isAlive) ? undefined : true));
      const deadMs = Math.round(performance.now() - began);
      const revoked = await revoking;
      expect(await daemon.exited).toBe(exitCodes.revoked);
      console.log(`${name}: sandboxes dead ${deadMs} ms after "bureau machine revoke" was typed`);
      expect(deadMs).toBeLessThan(10_000);
      expect(revoked).toMatchObject({ ok: true, account: "deactivated", problems: [] });
      const third = `@${fleet}/agent/third:${homeserver.serverName}`;
      for (const user_id of [third, foreign.userId])
        expect(revoked.agents).toContainEqual({ user_id, account: "logged-out" });
      await expect(foreign.whoami()).rejects.toMatchObject({ code: "unauthorized" });
      expect(await stateOf(`${fleet}/machine`, eventTypes.credentialRevocation)).toMatchObject({
        machine: host.machine,
        machine_user_id: `@${host.machine}:${homeserver.serverName}`,
        principals: expect.arrayContaining([third]),
        credential_keys: expect.arrayContaining([third.slice(1)]),
        reason: "stolen",
        account_deactivated: true,
      });
      expect(await stateOf(`${fleet}/machine`, eventTypes.machineKey)).toEqual({});
      await expect(host.start("daemon").exited).resolves.toBe(exitCodes.revoked);
    });

    test("and can rejoin where the homeserver can reopen a closed account", async () => {
      await host.stop();
      const again = ["machine", "provision", "box", "--fleet", fleet, "--output", host.bootstrap, ...admin];
      const { code, stderr } = await person.run(...again);
      if (code !== 0) {
        console.log(`${name}: it cannot`);
        expect(stderr).toContain("failed to open a closed account again");
        expect(stderr).toContain("choose another machine name");
        await host[Symbol.asyncDispose]();
        host = new Host("next", homeserver.serverName, fleet);
        await provision("next", "--output", host.bootstrap);
      }
      await host.startBoth();
      await isUp();
    });

    test("revocation without a server admin removes it too, and reports what was not possible", async () => {
      if (admin.length === 0) return;
      await runAgent("fourth");
      const daemon = findByArguments("--state-dir", join(host.dir, "s")).filter(isAlive);
      const { code, stdout } = await person.run("machine", "revoke", host.machine, "--json");
      expect(code).toBe(1);
      const revoked = JSON.parse(stdout) as Removed;
      expect(revoked).toMatchObject({ ok: false, account: "open", still_in: [] });
      expect(revoked.problems.join()).toContain("--admin-token-file");
      await eventually(async () => (sandboxPids(host).length === 0 ? true : undefined));
      expect(daemon.length).toBeGreaterThan(0);
      const again = await person.json<Removed>("machine", "revoke", host.machine, ...admin);
      expect(again).toMatchObject({ ok: true, account: "deactivated", problems: [] });
    });

    test("a machine that never joined is removed without waiting for it", async () => {
      const gone = await person.json<Removed>(
        ...["machine", "decommission", `@${fleet}/machine/other:${homeserver.serverName}`, ...admin],
      );
      expect(gone).toMatchObject({ ok: true, drain: "not-asked", account: "locked" });
      expect(gone.removed_from).toHaveLength(8);
    });
  });
}

/** The processes in a host's sandboxes. */
const sandboxPids = (host: Host): ProcessId[] => findInhabitants(join(host.dir, "r")).filter(isAlive);
