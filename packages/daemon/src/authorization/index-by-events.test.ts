/**
 * A state machine: random events reach one resolver, which keeps what it read, in random order. After each, its index must
 * equal that of a resolver and a store that were made from nothing, of copies of the events in another order.
 */
import { expect, test } from "bun:test";
import { canonicalJson } from "@bureau/kit/canonical-json";
import type { StateEvent } from "@bureau/matrix/event";
import { RoomStateStore } from "@bureau/matrix/room-state";
import type { AuthorizationIndex } from "@bureau/schema/authorization-index";
import { eventTypes, type MachineConfig } from "@bureau/schema/events";
import {
  parseMachine,
  parseRoomId,
  parseServerName,
  parseUserId,
  type RoomId,
  type UserId,
} from "@bureau/schema/refs";
import type { Desired } from "../desired/desired.ts";
import { DesiredResolver } from "../desired/desired-resolver.ts";
import type { RoomLookup } from "../desired/snapshot.ts";
import { SeededRandom } from "../testing/seeded-random.ts";

const STEPS = 500;
const QUESTIONS = 80;

const place = {
  machine: parseMachine("b/fleet/p/machine/box"),
  server: parseServerName("s"),
  localpartBytesMax: 84,
};
const [configRoom, templateRoom, workspace, elsewhere] = ["!config", "!templates", "!work", "!else"].map(
  parseRoomId,
) as [RoomId, RoomId, RoomId, RoomId];
const rooms = [configRoom, templateRoom, workspace, elsewhere];
const admin = parseUserId("@admin:s");
const agents = ["a", "b", "c", "d"].map((name) => parseUserId(`@b/fleet/p/agent/${name}:s`));
const people = ["@ann:s", "@eve:other.org"].map(parseUserId);
const users = [...agents, admin, ...people];
const actions = [
  "observe",
  "observe/read-write",
  "interrupt",
  "fleet/info",
  "matrix/join",
  "grant/approve/interrupt",
];
const patterns = [...actions, "**", "observe/**", "fleet/*", "grant/approve/**", "["];
const userPatterns = ["**:*", "b/**:s", "b/fleet/p/agent/a:s", "ann:s", "*:*", "**", "b/fleet/p/agent/?:s"];
const nowMs = Date.parse("2026-06-01T12:00:00Z");
const times = ["2026-06-01T11:00:00Z", "2026-06-01T12:30:00Z", "2026-06-01T14:00:00Z", "soon"];

const seed = Number(process.env["BUREAU_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
const random = new SeededRandom(seed);
const one = <T>(items: readonly T[]): T => items[random.below(items.length)] as T;
const some = <T>(max: number, make: () => T): T[] => Array.from({ length: random.below(max + 1) }, make);

const grant = () => ({
  actions: some(2, () => one(patterns)),
  targets: some(2, () => one(userPatterns)),
  ...(random.chance(0.3) ? { expires_at: one(times) } : {}),
});
const allowance = () => ({ actions: some(2, () => one(patterns)), actors: some(2, () => one(userPatterns)) });
const policy = () => ({
  grants: some(2, grant),
  ...(random.chance(0.4) ? { denials: some(1, grant) } : {}),
  allowances: some(2, allowance),
  ...(random.chance(0.4) ? { allowance_denials: some(1, allowance) } : {}),
});

class World {
  config: MachineConfig = { principals: [] };
  readonly #events = new Map<string, { room: RoomId; event: StateEvent }>();
  readonly #members = new Map<RoomId, ReadonlySet<UserId>>();
  #membersRevision = 0;
  #eventIds = 0;
  readonly #store = new RoomStateStore();
  readonly #resolver = new DesiredResolver(place);

  put(room: RoomId, type: string, stateKey: string, content: object, sender: UserId = admin): void {
    const sentAt = nowMs;
    const event = {
      type,
      stateKey,
      content: { ...content },
      sender,
      sentAt,
      eventId: `$${this.#eventIds++}`,
    };
    this.#events.set(canonicalJson([room, type, stateKey]), { room, event });
    apply(this.#store, room, event);
  }

  join(room: RoomId, members: readonly UserId[] | undefined): void {
    if (members === undefined) this.#members.delete(room);
    else this.#members.set(room, new Set(members));
    this.#membersRevision++;
  }

  resolve(): Desired {
    return this.#resolver.resolve(this.#snapshot(this.#store, this.config));
  }

  /** Without anything that was kept: not even the events are the same objects. */
  rebuild(): Desired {
    const store = new RoomStateStore();
    const shuffled = [...this.#events.values()].map((value) => ({ value, at: random.next() }));
    for (const { value } of shuffled.sort((a, b) => a.at - b.at)) {
      const { room, event } = structuredClone(value);
      apply(store, room, event);
    }
    return new DesiredResolver(place).resolve(this.#snapshot(store, structuredClone(this.config)));
  }

  #snapshot(states: RoomStateStore, config: MachineConfig) {
    const lookup = (alias: string): RoomLookup =>
      alias === "#b/template:s" ? { kind: "joined", room: templateRoom } : { kind: "pending" };
    const members = { revision: this.#membersRevision, of: (room: RoomId) => this.#members.get(room) };
    return {
      config,
      configRoom,
      serviceRoom: undefined,
      states,
      directory: { revision: 0, lookup },
      members,
    };
  }
}

function apply(store: RoomStateStore, room: RoomId, event: StateEvent): void {
  const update = { state: [event], timeline: [], limited: false };
  store.apply({ nextBatch: "1", joined: new Map([[room, update]]), invited: new Map(), left: [] });
}

const assignment = (principal: UserId) => ({
  principal,
  template: one(["b/template:base", "b/template:child", "b/template:missing"]),
  auto_start: random.chance(0.8),
  ...(random.chance(0.7) ? { authorization: policy() } : {}),
  ...(random.chance(0.3) ? { matrix_policy: { allow_join: true } } : {}),
  ...(random.chance(0.5) ? { payload: { WORKSPACE_ROOM_ID: one([workspace, elsewhere]) } } : {}),
  ...(random.chance(0.05) ? { authorization: { denials: "all" } } : {}),
});

/** What may happen, each with the name that a failure prints. */
const happenings: Readonly<Record<string, (world: World) => void>> = {
  "the configuration is written": (world) => {
    const principals = agents.filter(() => random.chance(0.8)).map(assignment);
    world.config = { default_policy: random.chance(0.5) ? policy() : {}, principals };
  },
  "one assignment changes": (world) => {
    const principals = [...world.config.principals];
    if (principals.length > 0) principals[random.below(principals.length)] = assignment(one(agents));
    world.config = { ...world.config, principals };
  },
  "the same configuration is written again": (world) => {
    world.config = structuredClone(world.config);
  },
  "a template changes": (world) => {
    const [name, rest] = one([
      ["base", {}],
      ["child", { inherits: ["b/template:base"] }],
    ] as const);
    const content = { command: ["run"], authorization: policy(), ...rest };
    world.put(templateRoom, eventTypes.template, name, random.chance(0.1) ? {} : content);
  },
  "a room's policy changes": (world) => {
    const content = {
      member_grants: some(2, grant),
      power_level_grants: { "50": some(1, grant), "100": [grant()] },
      member_allowances: some(2, allowance),
      power_level_allowances: { [one(["50", "100", "high"])]: some(1, allowance) },
    };
    const sender = random.chance(0.9) ? admin : one(people);
    world.put(one(rooms), eventTypes.authorization, "", random.chance(0.2) ? {} : content, sender);
  },
  "power levels change": (world) => {
    const levels = users.filter(() => random.chance(0.3)).map((user) => [user, one([0, 50, 100])]);
    world.put(one(rooms), eventTypes.powerLevels, "", {
      users: { ...Object.fromEntries(levels), [admin]: 100 },
    });
  },
  "members come and leave": (world) => {
    const members = random.chance(0.1) ? undefined : users.filter(() => random.chance(0.6));
    world.join(one(rooms), members);
  },
  "a grant for a time is written": (world) => {
    const content = { grant: { ...grant(), expires_at: one(times) }, principal: one(users) };
    world.put(one(rooms), eventTypes.temporalGrant, one(["t1", "t2", "t3"]), content, one([admin, ...users]));
  },
  "a grant for a time is revoked": (world) => {
    world.put(one(rooms), eventTypes.temporalGrant, one(["t1", "t2", "t3"]), {}, one(users));
  },
};

/** What an index says of a user, in no particular order: temporal grants have none. */
const said = (index: AuthorizationIndex, user: UserId): unknown =>
  Object.entries(index.policyOf(user)).map(([kind, rules]) => [
    kind,
    (rules ?? []).map((rule) => canonicalJson(rule)).sort(),
  ]);

test(`an index that follows ${STEPS} random events equals one from nothing (BUREAU_SEED=${seed})`, () => {
  const world = new World();
  for (const room of rooms) world.put(room, eventTypes.powerLevels, "", { users: { [admin]: 100 } });
  const outcomes = new Set<string>();
  const sources = new Set<string>();
  for (let step = 0; step < STEPS; step++) {
    const [what, happen] = one(Object.entries(happenings));
    happen(world);
    const { authorization: kept, faults } = world.resolve();
    const { authorization: rebuilt, faults: rebuiltFaults } = world.rebuild();
    const where = `BUREAU_SEED=${seed}, step ${step}: ${what}`;
    expect([...faults].sort(), where).toEqual([...rebuiltFaults].sort());
    expect([...kept.users].sort(), where).toEqual([...rebuilt.users].sort());
    for (let question = 0; question < QUESTIONS; question++) {
      const [actor, action, at] = [one(users), one(actions), nowMs + one([-2, 0, 1]) * 3_600_000];
      const target = random.chance(0.3) ? undefined : one(users);
      const [decision, expected] = [kept, rebuilt].map((index) => index.authorize(actor, action, target, at));
      const answer = decision?.allowed ? "allowed" : decision?.reason;
      expect(answer, `${where}: ${actor} ${action} ${target}`).toBe(
        expected?.allowed ? "allowed" : (expected?.reason as string),
      );
      outcomes.add(answer ?? "");
      sources.add((decision?.grant?.source ?? "").replace(/^room:.*/u, "room"));
    }
    for (const user of users) expect(said(kept, user), `${where}: ${user}`).toEqual(said(rebuilt, user));
  }
  // The frequent outcomes and every source occurred; the property test of the evaluator counts the rare outcomes.
  for (const frequent of ["allowed", "no matching grant", "matching grant expired", "explicit denial"])
    expect(outcomes).toContain(frequent);
  expect([...sources].sort()).toEqual([
    "",
    "machine-default",
    "principal",
    "principal-shorthand",
    "room",
    "template",
    "temporal",
  ]);
});
