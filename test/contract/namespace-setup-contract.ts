/** Setting up a namespace, a machine and its configuration, on every kind of homeserver. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { login, registerWithToken } from "@bureau/matrix/auth";
import type { StateContent } from "@bureau/matrix/edit-state";
import { editMachineInfo } from "@bureau/matrix/machine-info";
import { changePowerLevels } from "@bureau/matrix/power-levels";
import { MatrixSession } from "@bureau/matrix/session";
import { egressFetch } from "@bureau/os/egress";
import { takeTurn } from "@bureau/os/turn";
import { eventTypes, type PrincipalAssignment } from "@bureau/schema/events";
import {
  aliasOf,
  fleetLocalpart,
  machineLocalpart,
  parseLocalpart,
  parseNamespace,
  parseServerName,
  principalLocalpart,
  rooms,
  serverOf,
  stateKeyOf,
  userIdOf,
} from "@bureau/schema/refs";
import { readConfigFaults, repairConfig } from "../../packages/control/src/machines/config-repair.ts";
import { listMachines } from "../../packages/control/src/machines/list-machines.ts";
import {
  configPlace,
  editAssignment,
  readAssignments,
} from "../../packages/control/src/machines/machine-config.ts";
import { repairMachineRooms } from "../../packages/control/src/machines/machine-room-repair.ts";
import { provisionMachine } from "../../packages/control/src/machines/provision.ts";
import { ensureAdministrator } from "../../packages/control/src/principals/administrator.ts";
import { createPrincipal } from "../../packages/control/src/principals/principals.ts";
import { ensureRoom } from "../../packages/control/src/rooms/ensure-room.ts";
import { ensureFleet, ensureNamespace } from "../../packages/control/src/rooms/namespace-setup.ts";
import { roomOf } from "../../packages/control/src/rooms/places.ts";
import { publishBuiltinTemplates } from "../../packages/control/src/templates/publish-builtin-templates.ts";
import {
  readResolvedTemplate,
  requireTemplate,
} from "../../packages/control/src/templates/template-store.ts";
import { bootstrapFileAt } from "../../packages/instance/src/bootstrap-file.ts";
import { credentialFileAt } from "../../packages/instance/src/credential-file.ts";

const namespace = parseNamespace("bureau");
const fleet = fleetLocalpart(namespace, "local");
const machine = machineLocalpart(fleet, "m1");

/** What the tests need of a homeserver. */
export type SetupHomeserver = AsyncDisposable & {
  readonly url: string;
  readonly serverName: string;
  readonly registrationToken: string;
};

export function defineNamespaceSetup(name: string, start: () => Promise<SetupHomeserver>): void {
  describe(name, () => {
    let homeserver: SetupHomeserver;
    let session: MatrixSession;
    let dir: string;

    const administrator = () =>
      ensureAdministrator({
        fetch: egressFetch,
        homeserver: homeserver.url,
        registrationToken: homeserver.registrationToken,
        store: credentialFileAt(join(dir, "credentials")),
      });
    const setUp = async () => {
      const made = await ensureNamespace(session, namespace);
      await ensureFleet(session, fleet);
      return made;
    };
    const provision = (name = machine, file = "bootstrap.json") =>
      provisionMachine({
        session,
        registrationToken: homeserver.registrationToken,
        homeserver: homeserver.url,
        machine: name,
        store: bootstrapFileAt(join(dir, file), name),
      });

    beforeAll(async () => {
      dir = mkdtempSync(join(tmpdir(), "bns-"));
      homeserver = await start();
      session = (await administrator()).session;
      await setUp();
      await provision();
    });
    afterAll(async () => {
      await homeserver[Symbol.asyncDispose]();
      rmSync(dir, { recursive: true, force: true });
    });

    describe("setting up a namespace", () => {
      test("again creates no room and publishes nothing", async () => {
        const before = await session.joinedRooms();
        const { published } = await setUp();
        expect(published).toEqual([]);
        expect((await session.joinedRooms()).sort()).toEqual(before.sort());
      });

      test("the administrator's session is kept and used again", async () => {
        const again = await administrator();
        expect(again.credentials.adminToken).toBe((await administrator()).credentials.adminToken);
      });

      test("every room of the catalogue has its alias", async () => {
        for (const localpart of [
          rooms.space(namespace),
          rooms.system(namespace),
          rooms.template(namespace),
          rooms.pipeline(namespace),
          rooms.artifact(namespace),
          rooms.dev(namespace),
          rooms.fleet(fleet),
          rooms.fleetMachines(fleet),
          rooms.fleetServices(fleet),
          rooms.config(machine),
          rooms.ops(machine),
        ])
          expect(
            await session.resolveAlias(aliasOf(localpart, parseServerName(homeserver.serverName))),
          ).toBeDefined();
      });

      test("keeps a template that a person changed", async () => {
        const room = await roomOf(session, rooms.template(namespace));
        await session.putState(room, eventTypes.template, "agent", { description: "mine" });
        expect(await publishBuiltinTemplates(session, namespace, room)).toEqual([]);
        expect(await session.getState(room, eventTypes.template, "agent")).toEqual({ description: "mine" });
        await session.putState(room, eventTypes.template, "agent", {});
        expect(await publishBuiltinTemplates(session, namespace, room)).toEqual(["agent"]);
      });

      test("resolves a template through its parents and names a missing one", async () => {
        expect((await requireTemplate(session, "bureau/template:greeter")).namespaces?.net).toBe(true);
        const missing = await readResolvedTemplate(session, "bureau/template:mine", {
          inherits: ["bureau/template:nope"],
        });
        expect(missing.ok === false && missing.problem).toContain("bureau/template:nope");
      });
    });

    describe("provisioning a machine", () => {
      test("writes a bootstrap file that logs in once as the machine, which may then join its rooms", async () => {
        const file = JSON.parse(readFileSync(join(dir, "bootstrap.json"), "utf8"));
        expect(Object.keys(file).sort()).toEqual([
          "fleet_prefix",
          "homeserver_url",
          "machine_name",
          "password",
          "server_name",
        ]);
        const granted = await login({
          fetch: egressFetch,
          homeserver: homeserver.url,
          user: machine,
          password: file.password,
        });
        const own = new MatrixSession({
          fetch: egressFetch,
          homeserver: homeserver.url,
          userId: granted.userId,
          token: granted.token,
        });
        for (const localpart of [
          rooms.config(machine),
          rooms.fleetMachines(fleet),
          rooms.template(namespace),
        ])
          await own.joinRoom(aliasOf(localpart, parseServerName(homeserver.serverName)));
      });

      test("an interrupted run continues with the same password", async () => {
        const before = readFileSync(join(dir, "bootstrap.json"), "utf8");
        await provision();
        expect(readFileSync(join(dir, "bootstrap.json"), "utf8")).toBe(before);
      });

      test("of a joined machine is a conflict and leaves no file", async () => {
        await expect(provision(machine, "other.json")).rejects.toThrow("is part of the fleet");
        expect(existsSync(join(dir, "other.json"))).toBe(false);
      });
    });

    describe("an existing room under an alias", () => {
      /** A user with an account and no rights. */
      const stranger = async (username: string): Promise<MatrixSession> => {
        const { registrationToken } = homeserver;
        const made = await registerWithToken({
          fetch: egressFetch,
          homeserver: homeserver.url,
          username,
          password: "p",
          registrationToken,
        });
        if (made.inUse) throw new Error("the name is taken");
        return new MatrixSession({
          fetch: egressFetch,
          homeserver: homeserver.url,
          userId: made.userId,
          token: made.token,
        });
      };
      const wanted = (localpart: string) => ({
        kind: "config" as const,
        localpart: parseLocalpart(localpart),
        name: "wanted",
      });

      test("is refused when a stranger made it, with or without us as a member", async () => {
        const mallory = await stranger("mallory");
        await mallory.createRoom({ room_alias_name: "early", preset: "private_chat" });
        await expect(ensureRoom(session, wanted("early"))).rejects.toThrow("is not in it");
        const open = await mallory.createRoom({ preset: "private_chat", invite: [session.userId] });
        const users = { [session.userId]: 100 };
        await changePowerLevels(mallory, open, { users }, { clock: systemClock });
        await session.joinRoom(open);
        await session.createAlias(aliasOf(parseLocalpart("early/open"), serverOf(session.userId)), open);
        await expect(ensureRoom(session, wanted("early/open"))).rejects.toThrow(mallory.userId);
        await session.leaveRoom(open);
      });

      test("of an earlier version gets today's levels, and its principals leave the config room", async () => {
        const place = await configPlace(session, machine);
        const agent = await stranger(principalLocalpart(fleet, "agent/old"));
        await session.inviteUser(place.room, agent.userId);
        await agent.joinRoom(place.room);
        await changePowerLevels(
          session,
          place.room,
          { state_default: 0, events: { "m.bureau.layout": 0, "m.bureau.authorization": 0 } },
          { clock: systemClock },
        );
        await agent.putState(place.room, eventTypes.authorization, "g", { forged: true });
        const notes: string[] = [];
        await repairMachineRooms(session, machine, (sentence) => void notes.push(sentence));
        expect(notes).toHaveLength(2);
        const levels = await session.getState(place.room, eventTypes.powerLevels, "");
        expect(levels).toMatchObject({ state_default: 50, events: { [eventTypes.authorization]: 100 } });
        expect(await session.joinedMembers(place.room)).not.toContain(agent.userId);
        expect((await agent.sync({ timeoutMs: 0 })).joined.has(place.room)).toBe(false);
        expect(await session.getState(place.room, eventTypes.authorization, "g")).toBeUndefined();
        await repairMachineRooms(session, machine, (sentence) => void notes.push(sentence));
        expect(notes).toHaveLength(2);
      });
    });

    describe("an event counts by its sender", () => {
      const other = machineLocalpart(fleet, "m2");
      const publicKey = { algorithm: "age-x25519", public_key: "age1forged" };
      const told: string[] = [];

      /** Another machine of the fleet, in the rooms it shares with the first. */
      const joinOther = async (): Promise<MatrixSession> => {
        const { bootstrap } = await provision(other, "other.json");
        const granted = await login({
          fetch: egressFetch,
          homeserver: homeserver.url,
          user: other,
          password: bootstrap.password,
        });
        const own = new MatrixSession({ fetch: egressFetch, homeserver: homeserver.url, ...granted });
        await own.joinRoom(await roomOf(session, rooms.fleetMachines(fleet)));
        return own;
      };

      test("ignores a key that another machine put in a machine's place, and reports it once", async () => {
        const stored = (await administrator()).credentials;
        const reader = new MatrixSession({
          fetch: egressFetch,
          homeserver: homeserver.url,
          userId: session.userId,
          token: stored.adminToken,
          onIgnored: (sentence) => void told.push(sentence),
        });
        const room = await roomOf(session, rooms.fleetMachines(fleet));
        const own = await joinOther();
        const key = stateKeyOf(userIdOf(machine, serverOf(session.userId)));
        await own.putState(room, eventTypes.machineKey, key, publicKey);
        await own.putState(room, eventTypes.machineKey, stateKeyOf(own.userId), publicKey);
        expect((await listMachines(reader, fleet)).map(({ name }) => name)).toEqual([other]);
        expect(await reader.getState(room, eventTypes.machineKey, key)).toBeUndefined();
        expect(told).toHaveLength(1);
        expect(told[0]).toContain(own.userId);
        const agent = createPrincipal({
          takeTurn,
          session: reader,
          registrationToken: homeserver.registrationToken,
          homeserver: homeserver.url,
          machine,
          principal: principalLocalpart(fleet, "agent/sealed"),
          joins: [],
          assignment: { template: "bureau/template:agent", auto_start: true },
        });
        await expect(agent).rejects.toThrow("has no key");
      });

      test("the next edit removes labels that another machine wrote", async () => {
        const room = await roomOf(session, rooms.fleetMachines(fleet));
        const user = userIdOf(machine, serverOf(session.userId));
        const own = new MatrixSession({
          fetch: egressFetch,
          homeserver: homeserver.url,
          ...(await login({
            fetch: egressFetch,
            homeserver: homeserver.url,
            user: other,
            password: JSON.parse(readFileSync(join(dir, "other.json"), "utf8")).password,
          })),
        });
        await own.putState(room, eventTypes.machineInfo, stateKeyOf(user), { labels: { forged: "yes" } });
        const { content } = await editMachineInfo(session, room, user, {
          labels: new Map([["mine", "yes"]]),
        });
        expect(content).toEqual({ labels: { mine: "yes" } });
      });
    });

    describe("editing a machine's configuration", () => {
      const assignment = (name: string): PrincipalAssignment => ({
        principal: userIdOf(principalLocalpart(fleet, `agent/${name}`), serverOf(session.userId)),
        template: "bureau/template:agent",
        auto_start: true,
      });

      test("many concurrent edits lose no change", async () => {
        const place = await configPlace(session, machine);
        const names = Array.from({ length: 8 }, (_, index) => `n${index}`);
        const edit = (name: string, present: boolean) =>
          editAssignment(
            { session, takeTurn },
            place,
            assignment(name).principal,
            present ? assignment(name) : undefined,
          );
        await Promise.all(names.map((name) => edit(name, true)));
        const assigned = async () =>
          (await readAssignments(session, place)).assignments.map(({ principal }) => principal).sort();
        expect(await assigned()).toEqual(names.map((name) => assignment(name).principal).sort());
        await Promise.all(names.map((name, index) => edit(name, index >= 4)));
        expect(await assigned()).toEqual(
          names
            .slice(4)
            .map((name) => assignment(name).principal)
            .sort(),
        );
      });

      test("works beside a field that cannot be read, names it, and removes it on request", async () => {
        const place = await configPlace(session, machine);
        const write = (content: object) =>
          session.putState(place.room, eventTypes.machineConfig, place.key, content);
        const read = async () =>
          (await session.getState(place.room, eventTypes.machineConfig, place.key)) as StateContent;
        const odd = { principal: assignment("odd").principal, template: 5 };
        await write({ principals: [odd], default_policy: { grants: "all" }, future_field: 1 });
        await editAssignment({ session, takeTurn }, place, assignment("y").principal, assignment("y"));
        const faulty = ["default_policy", "principals.0"];
        expect((await readConfigFaults(session, place)).map(({ field }) => field)).toEqual(faulty);
        expect((await repairConfig({ session, takeTurn }, place)).map(({ field }) => field)).toEqual(faulty);
        expect(await read()).toEqual({ principals: [assignment("y")], future_field: 1 });
        await write({ principals: "none", future_field: 2 });
        const edit = editAssignment({ session, takeTurn }, place, assignment("z").principal, assignment("z"));
        await expect(edit).rejects.toMatchObject({ hint: expect.stringContaining("--repair") });
        await repairConfig({ session, takeTurn }, place);
        expect(await read()).toEqual({ principals: [assignment("y")], future_field: 2 });
        expect(await repairConfig({ session, takeTurn }, place)).toEqual([]);
      });

      test("keeps fields and entries it does not understand", async () => {
        const place = await configPlace(session, machine);
        const odd = { principal: "@odd:elsewhere", template: 5, future: true };
        await session.putState(place.room, eventTypes.machineConfig, place.key, {
          principals: [odd],
          future_field: { a: 1 },
        });
        await editAssignment({ session, takeTurn }, place, assignment("x").principal, assignment("x"));
        expect(await session.getState(place.room, eventTypes.machineConfig, place.key)).toEqual({
          principals: [odd, assignment("x")],
          future_field: { a: 1 },
        });
        expect((await readAssignments(session, place)).unreadable).toBe(1);
      });
    });
  });
}
