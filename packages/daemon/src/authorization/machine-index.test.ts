import { describe, expect, test } from "bun:test";
import { RoomStateStore } from "@bureau/matrix/room-state";
import type { AuthorizationPolicy } from "@bureau/schema/authorization";
import { eventTypes, PrincipalAssignmentSchema } from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import { parseRoomId, parseUserId, type RoomId, type UserId } from "@bureau/schema/refs";
import { machineIndex } from "./machine-index.ts";
import type { AssignedPolicies } from "./policy-sources.ts";

const configRoom = parseRoomId("!config");
const workspace = parseRoomId("!workspace");
const agent = parseUserId("@b/fleet/p/agent/a:s");
const other = parseUserId("@b/fleet/p/agent/b:s");
const admin = parseUserId("@admin:s");
const ann = parseUserId("@ann:s");
const nowMs = Date.parse("2026-06-01T12:00:00Z");
const later = "2026-06-01T13:00:00Z";
const everyone = ["**:*"];

class World {
  readonly #states = new RoomStateStore();
  readonly #assigned = new Map<UserId, AssignedPolicies | undefined>();
  readonly #members = new Map<RoomId, Set<UserId>>();
  readonly faults: string[] = [];
  #events = 0;

  constructor() {
    for (const room of [configRoom, workspace])
      this.put(room, eventTypes.powerLevels, "", { users: { [admin]: 100, [ann]: 50 } }, admin);
    this.assign(agent, { workspace });
    this.assign(other);
  }

  put(room: RoomId, type: string, stateKey: string, content: object, sender: UserId): void {
    const event = {
      type,
      stateKey,
      content: { ...content },
      sender,
      sentAt: nowMs,
      eventId: `$${this.#events++}`,
    };
    const update = { state: [event], timeline: [], limited: false };
    this.#states.apply({ nextBatch: "1", joined: new Map([[room, update]]), invited: new Map(), left: [] });
  }

  assign(
    principal: UserId,
    rest: Omit<AssignedPolicies, "assignment"> & { own?: AuthorizationPolicy } = {},
  ): void {
    const { own: authorization, ...policies } = rest;
    const entry = { principal, template: "", auto_start: true, authorization };
    const assignment = parse(PrincipalAssignmentSchema, entry, "assignment");
    this.#assigned.set(principal, { assignment, ...policies });
  }

  join(room: RoomId, ...users: UserId[]): void {
    this.#members.set(room, new Set(users));
  }

  ask(actor: UserId, action: string, target?: UserId, at = nowMs): unknown {
    this.faults.length = 0;
    const members = { revision: 0, of: (room: RoomId) => this.#members.get(room) };
    const snapshot = { configRoom, states: this.#states, members };
    const { index } = machineIndex(snapshot, {}, this.#assigned, (sentence) => this.faults.push(sentence));
    const decision = index.authorize(actor, action, target, at);
    return decision.allowed ? (decision.grant?.source ?? decision.allowance?.source) : decision.reason;
  }

  grant(key: string, grant: object, sender: UserId, principal = agent, room = workspace): void {
    this.put(room, eventTypes.temporalGrant, key, { grant, principal }, sender);
  }
}

const acts = (...actions: string[]) => ({ actions });

describe("a room's policy", () => {
  const policy = {
    member_grants: [acts("ticket/create")],
    power_level_grants: { "50": [acts("fleet/info")], "100": [acts("**")] },
    member_allowances: [{ actions: ["observe"], actors: ["ann:s"] }],
  };

  test("grants to members, and by their power level", () => {
    const world = new World();
    world.put(configRoom, eventTypes.authorization, "", policy, admin);
    world.join(configRoom, agent, ann, admin);
    expect(world.ask(agent, "ticket/create")).toBe(`room:${configRoom}`);
    expect(world.ask(agent, "fleet/info")).toBe("no matching grant");
    expect(world.ask(ann, "fleet/info")).toBe(`room:${configRoom}`);
    expect(world.ask(ann, "fleet/place")).toBe("no matching grant");
    expect(world.ask(admin, "fleet/place")).toBe(`room:${configRoom}`);
    expect(world.ask(ann, "observe", agent)).toBe(`room:${configRoom}`);
  });

  test("grants nothing to users who are not in the room, or while its members are not known", () => {
    const world = new World();
    world.put(configRoom, eventTypes.authorization, "", policy, admin);
    expect(world.ask(agent, "ticket/create")).toBe("no matching grant");
    world.join(configRoom, ann);
    expect(world.ask(agent, "ticket/create")).toBe("no matching grant");
    expect(world.ask(admin, "fleet/place")).toBe("no matching grant");
  });

  test("of a workspace is for its own principals and for people, not for other principals", () => {
    const world = new World();
    world.put(workspace, eventTypes.authorization, "", policy, admin);
    world.join(workspace, agent, other, ann);
    expect(world.ask(agent, "ticket/create")).toBe(`room:${workspace}`);
    expect(world.ask(ann, "ticket/create")).toBe(`room:${workspace}`);
    expect(world.ask(other, "ticket/create")).toBe("no matching grant");
  });

  test("counts only from an administrator of the room", () => {
    const world = new World();
    world.put(configRoom, eventTypes.authorization, "", policy, ann);
    world.join(configRoom, agent, ann);
    expect(world.ask(agent, "ticket/create")).toBe("no matching grant");
  });

  test("that cannot be read grants nothing, and is a fault", () => {
    const world = new World();
    world.put(
      configRoom,
      eventTypes.authorization,
      "",
      { power_level_grants: { high: [acts("**")] } },
      admin,
    );
    world.join(configRoom, agent);
    expect(world.ask(agent, "ticket/create")).toBe("no matching grant");
    expect(world.faults.join()).toContain("its keys must be power levels");
  });
});

describe("a temporal grant", () => {
  const once = { ...acts("interrupt"), targets: everyone, expires_at: later };
  const withApprover = (approves: object, own: AuthorizationPolicy = {}): World => {
    const world = new World();
    world.assign(other, { own: { ...own, grants: [approves as { actions: string[] }] } });
    return world;
  };
  const allowing = (world: World): World => {
    world.assign(agent, { workspace, own: { allowances: [{ actions: ["**"], actors: everyone }] } });
    return world;
  };

  test("holds until its time, when an administrator of the config room gives it", () => {
    const world = allowing(new World());
    expect(world.ask(agent, "interrupt", agent)).toBe("no matching grant");
    world.grant("tkt-1", once, admin);
    expect(world.ask(agent, "interrupt", agent)).toBe("temporal");
    expect(world.ask(agent, "interrupt", agent, Date.parse(later))).toBe("matching grant expired");
  });

  test("ends when its event is cleared", () => {
    const world = allowing(new World());
    world.grant("tkt-1", once, admin);
    world.put(workspace, eventTypes.temporalGrant, "tkt-1", {}, admin);
    expect(world.ask(agent, "interrupt", agent)).toBe("no matching grant");
    expect(world.faults).toEqual([]);
  });

  test("without an end is ignored", () => {
    const world = new World();
    world.grant("tkt-1", acts("matrix/join"), admin);
    expect(world.ask(agent, "matrix/join")).toBe("no matching grant");
    expect(world.faults.join()).toContain("needs expires_at");
  });

  test("of a user without the right to approve is ignored", () => {
    const world = new World();
    world.grant("tkt-1", { ...acts("matrix/join"), expires_at: later }, ann);
    expect(world.ask(agent, "matrix/join")).toBe("no matching grant");
    expect(world.faults).toEqual([
      `The temporal grant "tkt-1" of ${ann} is ignored: its sender may not do "grant/approve/matrix/join" for ${agent} and these targets`,
    ]);
  });

  test("of an approver counts for the actions it may approve", () => {
    const world = withApprover({ ...acts("grant/approve/matrix/*"), targets: ["b/fleet/p/agent/a:s"] });
    world.grant("tkt-1", { ...acts("matrix/join"), expires_at: later }, other);
    expect(world.ask(agent, "matrix/join")).toBe("temporal");
    world.grant("tkt-1", { ...acts("matrix/join", "fleet/drain"), expires_at: later }, other);
    expect(world.ask(agent, "matrix/join")).toBe("no matching grant");
  });

  test("never widens a pattern: an approver of one action cannot give all", () => {
    const world = withApprover({ ...acts("grant/approve/matrix/join"), targets: everyone });
    for (const action of ["**", "matrix/*", "matrix/**", "*/join", "[m]atrix/join"]) {
      world.grant("tkt-1", { ...acts(action), expires_at: later }, other);
      expect(world.ask(agent, "matrix/join"), action).toBe("no matching grant");
    }
  });

  test("is for the principals and targets that its approver may approve for", () => {
    const approves = { ...acts("grant/approve/**"), targets: ["b/fleet/p/agent/a:s"] };
    const world = allowing(withApprover(approves));
    world.grant("tkt-1", { ...once, targets: ["b/fleet/p/agent/a:s"] }, other);
    expect(world.ask(agent, "interrupt", agent)).toBe("temporal");
    world.grant("tkt-1", once, other);
    expect(world.ask(agent, "interrupt", agent)).toBe("no matching grant");
    world.grant("tkt-1", { ...once, targets: ["b/fleet/p/agent/a:s"] }, other, ann);
    expect(world.ask(ann, "interrupt", agent)).toBe("no matching grant");
  });

  test("of an approver who is denied that is ignored", () => {
    const world = withApprover(
      { ...acts("grant/approve/**"), targets: everyone },
      { denials: [{ actions: ["grant/approve/matrix/join"], targets: ["b/**:s"] }] },
    );
    for (const action of ["matrix/join", "matrix/**", "**"]) {
      world.grant("tkt-1", { ...acts(action), expires_at: later }, other);
      expect(world.ask(agent, "matrix/join"), action).toBe("no matching grant");
    }
    world.grant("tkt-1", { ...acts("matrix/invite"), expires_at: later }, other);
    expect(world.ask(agent, "matrix/invite")).toBe("temporal");
  });

  test("for oneself is ignored, also from an approver", () => {
    const world = withApprover({ ...acts("grant/approve/**"), targets: everyone });
    world.grant("tkt-1", { ...acts("matrix/join"), expires_at: later }, other, other);
    expect(world.ask(other, "matrix/join")).toBe("no matching grant");
    expect(world.faults.join()).toContain("its sender is the principal that it is for");
  });

  test("makes no approver", () => {
    const world = new World();
    world.grant("tkt-1", { ...acts("grant/approve/**"), targets: everyone, expires_at: later }, admin, other);
    world.grant("tkt-2", { ...acts("matrix/join"), expires_at: later }, other);
    expect(world.ask(agent, "matrix/join")).toBe("no matching grant");
  });

  test("of an approver by a workspace's policy is ignored: its administrators have no right on the machine", () => {
    const world = new World();
    const policy = { member_grants: [{ ...acts("grant/approve/**"), targets: everyone }] };
    world.join(workspace, ann, agent);
    world.join(configRoom, ann);
    world.put(workspace, eventTypes.authorization, "", policy, admin);
    world.grant("tkt-1", { ...acts("matrix/join"), expires_at: later }, ann);
    expect(world.ask(agent, "matrix/join")).toBe("no matching grant");
    world.put(configRoom, eventTypes.authorization, "", policy, admin);
    expect(world.ask(agent, "matrix/join")).toBe("temporal");
  });

  test("of an administrator of another room counts no more than anyone's", () => {
    const world = new World();
    world.put(workspace, eventTypes.powerLevels, "", { users: { [admin]: 100, [ann]: 100 } }, admin);
    world.grant("tkt-1", { ...acts("matrix/join"), expires_at: later }, ann);
    expect(world.ask(agent, "matrix/join")).toBe("no matching grant");
  });
});
