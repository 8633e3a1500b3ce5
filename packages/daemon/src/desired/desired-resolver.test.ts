import { describe, expect, test } from "bun:test";
import { canonicalJson } from "@bureau/kit/canonical-json";
import { RoomStateStore } from "@bureau/matrix/room-state";
import { digestOf } from "@bureau/os/digest";
import { eventTypes, type MachineConfig } from "@bureau/schema/events";
import {
  parseMachine,
  parsePrincipalName,
  parseRoomAlias,
  parseRoomId,
  parseServerName,
  type RoomId,
  type UserId,
} from "@bureau/schema/refs";
import type { Desired, DesiredPrincipal, WantedSandbox } from "./desired.ts";
import { DesiredResolver } from "./desired-resolver.ts";
import type { RoomLookup, Snapshot } from "./snapshot.ts";

const configRoom = parseRoomId("!config");
const templateRoom = parseRoomId("!templates");
const projectRoom = parseRoomId("!project");
const serviceRoom = parseRoomId("!services");
const machine = parseMachine("bureau/fleet/test/machine/box");
const server = parseServerName("bureau.test");
const operator = "@operator:bureau.test";
const user = (name: string) => `@bureau/fleet/test/agent/${name}:bureau.test`;

class World {
  readonly store = new RoomStateStore();
  readonly members = { revision: 0, of: (room: RoomId) => this.memberLists.get(room) };
  readonly memberLists = new Map<RoomId, Set<UserId>>();
  #events = 0;
  rooms = new Map<string, RoomLookup>([
    ["#bureau/template:bureau.test", { kind: "joined", room: templateRoom }],
    ["#project:bureau.test", { kind: "joined", room: projectRoom }],
  ]);

  constructor() {
    for (const room of [configRoom, templateRoom, projectRoom, serviceRoom])
      this.put(room, eventTypes.powerLevels, "", { users: { [operator]: 100 } });
    this.credentials("a");
    this.template("plain", { command: ["run"] });
  }

  put(room: RoomId, type: string, stateKey: string, content: Record<string, unknown>): void {
    this.putAs(operator, room, type, stateKey, content);
  }

  putAs(
    sender: string,
    room: RoomId,
    type: string,
    stateKey: string,
    content: Record<string, unknown>,
  ): void {
    const event = { type, stateKey, content, sender, sentAt: 0, eventId: `$${this.#events++}` };
    const update = { state: [event], timeline: [], limited: false };
    this.store.apply({ nextBatch: "1", joined: new Map([[room, update]]), invited: new Map(), left: [] });
  }

  template(name: string, content: Record<string, unknown>): void {
    this.put(templateRoom, eventTypes.template, name, content);
  }

  credentials(name: string, changes: Record<string, unknown> = {}): void {
    this.put(configRoom, eventTypes.credentials, `bureau/fleet/test/agent/${name}:bureau.test`, {
      version: 1,
      principal: user(name),
      encrypted_for: null,
      keys: ["MATRIX_TOKEN"],
      ciphertext: "Y2lwaGVy",
      provisioned_by: "@op:bureau.test",
      provisioned_at: "now",
      signature: "",
      ...changes,
    });
  }

  resolve(principals: unknown[], rest: Partial<MachineConfig> = {}, bytesMax = 84): Desired {
    const resolver = new DesiredResolver({ machine, server, localpartBytesMax: bytesMax });
    return resolver.resolve(this.snapshot({ principals, ...rest }));
  }

  snapshot(config: MachineConfig): Snapshot {
    const directory = {
      revision: 0,
      lookup: (alias: string): RoomLookup => this.rooms.get(alias) ?? { kind: "pending" },
    };
    return { config, configRoom, serviceRoom, states: this.store, directory, members: this.members };
  }

  bind(room: RoomId, role: string, principal: string): void {
    this.put(room, eventTypes.serviceBinding, role, { principal });
  }

  announce(name: string, changes: Record<string, unknown> = {}): string {
    const key = `bureau/fleet/test/service/${name}:bureau.test`;
    const entry = {
      principal: `@${key}`,
      machine: `@${machine}:${server}`,
      endpoints: { cbor: "service.sock" },
    };
    this.put(serviceRoom, eventTypes.service, key, { ...entry, ...changes });
    return `@${key}`;
  }

  /** What `agent/a` gets of the service role "ticket", or what it waits for. */
  ticket(changes: Record<string, unknown> = {}) {
    const { services } = this.sandbox({ required_services_override: ["ticket"], ...changes });
    return services?.missing ?? services?.services;
  }

  /** The outcome of one assignment of `agent/a`. */
  one(changes: Record<string, unknown> = {}, rest: Partial<MachineConfig> = {}): DesiredPrincipal {
    const found = this.resolve([assignment(changes)], rest).principals.get(parsePrincipalName("agent/a"));
    if (found === undefined) throw new Error("agent/a is not there");
    return found;
  }

  sandbox(changes: Record<string, unknown> = {}, rest: Partial<MachineConfig> = {}): WantedSandbox {
    const { outcome } = this.one(changes, rest);
    if (outcome.kind !== "run") throw new Error(JSON.stringify(outcome));
    return outcome.sandbox;
  }

  reason(changes: Record<string, unknown> = {}): string {
    const { outcome } = this.one(changes);
    return "reason" in outcome ? `${outcome.kind}: ${outcome.reason}` : outcome.kind;
  }
}

const assignment = (changes: Record<string, unknown> = {}): Record<string, unknown> => ({
  principal: user("a"),
  template: "bureau/template:plain",
  auto_start: true,
  ...changes,
});

describe("a sandbox spec", () => {
  test("merges a template with its parents, extra templates, and the assignment's overrides, in this order", () => {
    const world = new World();
    world.template("base", {
      command: ["base"],
      environment_variables: { A: "base", B: "base" },
      roles: { r: ["x"] },
    });
    world.template("child", { inherits: ["bureau/template:base"], environment_variables: { B: "child" } });
    world.template("extra", { environment_variables: { C: "extra" }, default_payload: { p: 1, q: 1 } });
    const { spec } = world.sandbox({
      template: "bureau/template:child",
      extra_inherits: ["bureau/template:extra"],
      command_override: ["mine"],
      extra_environment_variables: { D: "mine" },
      environment_override: "/nix/store/x",
      payload: { q: 2 },
      secrets_override: [{ key: "K", env: "K" }],
    });
    expect(spec).toEqual({
      command: ["mine"],
      environment_variables: { A: "base", B: "child", C: "extra", D: "mine" },
      environment_path: "/nix/store/x",
      payload: { p: 1, q: 2 },
      roles: { r: ["x"] },
      secrets: [{ key: "K", env: "K" }],
    });
  });

  test("is a plain shell without a template", () => {
    expect(new World().sandbox({ template: "" }).spec.command).toEqual([]);
  });

  test("ignores an empty command override", () => {
    expect(new World().sandbox({ command_override: [] }).spec.command).toEqual(["run"]);
  });

  test("has separate digests of program, payload and credentials, which nothing else changes", () => {
    const world = new World();
    const before = world.sandbox();
    expect(world.sandbox({ labels: { shown: "here" }, restart_policy: "never" }).digests).toEqual(
      before.digests,
    );
    const payload = world.sandbox({ payload: { n: 1 } }).digests;
    expect(payload.spec).toBe(before.digests.spec);
    expect(payload.payload).not.toBe(before.digests.payload);
    const program = world.sandbox({ command_override: ["other"] }).digests;
    expect(program.spec).not.toBe(before.digests.spec);
    world.credentials("a", { ciphertext: "b3RoZXI=" });
    const rotated = world.sandbox().digests;
    expect(rotated.spec).not.toBe(before.digests.spec);
    expect(rotated.spec.split(".")[0]).toBe(before.digests.spec.split(".")[0] ?? "");
  });

  test("the order of a writer's keys does not matter", () => {
    expect(canonicalJson({ b: [1, { d: 1, c: undefined }], a: "x" })).toBe('{"a":"x","b":[1,{"d":1}]}');
    expect(digestOf({ a: 1, b: 2 })).toBe(digestOf({ b: 2, a: 1 }));
  });
});

describe("reports why a principal cannot run", () => {
  test("credentials are missing, cleared, another principal's, or lack a key", () => {
    const world = new World();
    expect(world.reason({ principal: user("a") })).toBe("run");
    world.put(configRoom, eventTypes.credentials, "bureau/fleet/test/agent/a:bureau.test", {});
    expect(world.reason()).toContain("failed: There are no credentials");
    world.credentials("a", { principal: user("b") });
    expect(world.reason()).toContain("belong to");
    world.credentials("a");
    world.template("needy", { command: ["x"], required_credentials: ["API_KEY"] });
    expect(world.reason({ template: "bureau/template:needy" })).toContain('lack "API_KEY"');
  });

  test("a template is missing, broken, or inherits from itself", () => {
    const world = new World();
    expect(world.reason({ template: "bureau/template:none" })).toContain(
      'failed: Template "bureau/template:none"',
    );
    world.template("broken", { command: "not a list" });
    expect(world.reason({ template: "bureau/template:broken" })).toContain("failed");
    world.template("x", { inherits: ["bureau/template:y"] });
    world.template("y", { inherits: ["bureau/template:x"] });
    expect(world.reason({ template: "bureau/template:x" })).toContain("inherits from itself");
  });

  test("parents that double at every level cost no more than the limit", () => {
    const world = new World();
    const parent = (level: number) => `bureau/template:level${level}`;
    for (let level = 0; level < 30; level++)
      world.template(`level${level}`, {
        inherits: level === 29 ? [] : [parent(level + 1), parent(level + 1)],
      });
    expect(world.reason({ template: parent(0) })).toContain("more than 200 templates");
  });

  test("the keys beside its bundle are another principal's, or lack a required one", () => {
    const world = new World();
    const type = eventTypes.credentialKeys;
    const keys = (content: Record<string, unknown>) =>
      world.put(configRoom, type, "bureau/fleet/test/agent/a:bureau.test", content);
    const by = { provisioned_by: user("a"), provisioned_at: "2026-01-01T00:00:00Z" };
    world.template("needy", { command: ["x"], required_credentials: ["API_KEY"] });
    const reason = () => world.reason({ template: "bureau/template:needy" });
    keys({ version: 1, principal: user("b"), keys: { API_KEY: { ...by, ciphertext: "YQ==" } } });
    expect(reason()).toContain(`they belong to ${user("b")}`);
    keys({ version: 1, principal: user("a"), keys: { API_KEY: { ...by, ciphertext: "YQ==" } } });
    expect(reason()).toBe("run");
    keys({ version: 1, principal: user("a"), keys: { API_KEY: by } });
    expect(reason()).toContain('lack "API_KEY"');
  });

  test("a principal whose credentials were revoked is stopped, until it has a bundle again", () => {
    const world = new World();
    const key = "bureau/fleet/test/agent/a:bureau.test";
    const revoked = { version: 1, principal: user("a"), keys: {}, revoked_by: operator, revoked_at: "now" };
    world.put(configRoom, eventTypes.credentialKeys, key, revoked);
    expect(world.reason()).toBe("run");
    world.put(configRoom, eventTypes.credentials, key, {});
    expect(world.reason()).toBe(`waiting: for credentials: ${operator} revoked them`);
    // The machine itself may write in the room, but has not the level for this.
    world.put(configRoom, eventTypes.credentialKeys, key, {});
    world.putAs(`@${machine}:${server}`, configRoom, eventTypes.credentialKeys, key, revoked);
    expect(world.reason()).toContain("failed: There are no credentials");
  });

  test("a required service has no name of a service, or a template's own credentials are missing", () => {
    const world = new World();
    for (const name of ["../proxy", "a/b", "", ".x", "ticket:", "ticket:../x"])
      expect(world.reason({ required_services_override: [name] })).toContain("Invalid ");
    world.template("bound", { credential_ref: "bureau/template:key" });
    expect(world.reason({ template: "bureau/template:bound" })).toContain("bureau/template:key");
  });

  test("a room that is not resolved yet is not a fault, and is requested", () => {
    const world = new World();
    const other = "#other/room:bureau.test";
    const desired = world.resolve([assignment({ template: "other/room:x" })]);
    expect([...desired.aliases]).toEqual([parseRoomAlias(other)]);
    expect(world.reason({ template: "other/room:x" })).toContain("unresolved");
    world.rooms.set(other, { kind: "missing", reason: "there is no room" });
    expect(world.reason({ template: "other/room:x" })).toContain("failed");
  });
});

describe("start conditions", () => {
  const condition = { event_type: "m.job", state_key: "k", content_match: { n: { $gte: 2 } } };

  test("wait for the event and for its content, then pass it on", () => {
    const world = new World();
    expect(world.reason({ start_condition: condition })).toBe('waiting: for the state event m.job "k"');
    world.put(configRoom, "m.job", "k", { n: 1 });
    expect(world.reason({ start_condition: condition })).toContain("to match");
    world.put(configRoom, "m.job", "k", { n: 2 });
    expect(world.sandbox({ start_condition: condition }).trigger).toBe('{"n":2}');
    expect(world.sandbox({ start_condition: condition }).digests).toEqual(world.sandbox().digests);
    world.put(configRoom, "m.job", "k", {});
    expect(world.one({ start_condition: condition }).outcome.kind).toBe("waiting");
  });

  test("may be in another room", () => {
    const world = new World();
    const elsewhere = { ...condition, room_alias: "#project:bureau.test" };
    world.put(configRoom, "m.job", "k", { n: 2 });
    expect(world.one({ start_condition: elsewhere }).outcome.kind).toBe("waiting");
    world.put(projectRoom, "m.job", "k", { n: 2 });
    expect(world.one({ start_condition: elsewhere }).outcome.kind).toBe("run");
    expect(world.reason({ start_condition: { ...condition, room_alias: "#unknown:bureau.test" } })).toContain(
      "unresolved",
    );
  });
});

describe("one bad assignment", () => {
  test("fails alone and is named, and the others run", () => {
    const world = new World();
    world.credentials("b");
    const { principals, faults } = world.resolve([
      assignment({ auto_start: "yes" }),
      assignment({ principal: user("b") }),
      "not an assignment",
    ]);
    const kinds = [...principals].map(([account, { outcome }]) => `${account} ${outcome.kind}`);
    expect(kinds).toEqual(["agent/a failed", "agent/b run"]);
    expect(faults).toHaveLength(2);
    expect(faults[0]).toContain("principals.0");
    expect(faults[0]).toContain("auto_start");
  });

  test("is refused when it names another fleet or server", () => {
    const world = new World();
    const { principals, faults } = world.resolve([
      assignment({ principal: "@bureau/fleet/other/agent/a:bureau.test" }),
      assignment({ principal: "@bureau/fleet/test/agent/a:evil.test" }),
    ]);
    expect(principals.size).toBe(0);
    expect(faults).toHaveLength(2);
  });

  test("is refused when it repeats a principal, with its duplicate", () => {
    const { principals, faults } = new World().resolve([assignment(), assignment(), assignment()]);
    expect(principals.get(parsePrincipalName("agent/a"))?.outcome.kind).toBe("failed");
    expect(faults).toHaveLength(1);
  });

  test("fails when its sockets' paths would be too long", () => {
    const { principals, faults } = new World().resolve([assignment()], {}, 20);
    expect(principals.get(parsePrincipalName("agent/a"))?.outcome.kind).toBe("failed");
    expect(faults[0]).toContain("20 bytes");
  });

  test("a disabled assignment is not a fault", () => {
    expect(new World().one({ auto_start: false, template: "bureau/template:none" }).outcome.kind).toBe(
      "stopped",
    );
  });
});

describe("grants", () => {
  test("come from the machine, the assignment and its shorthands, each with its source", () => {
    const { grants } = new World().sandbox(
      {
        authorization: { grants: [{ actions: ["ticket/**"], source: "forged" }] },
        matrix_policy: { allow_join: true, allow_room_create: true },
        service_visibility: ["service/stt/*"],
      },
      { default_policy: { grants: [{ actions: ["service/discover"], targets: ["**"] }] } },
    );
    expect(grants).toEqual([
      { actions: ["service/discover"], targets: ["**"], source: "machine-default" },
      { actions: ["ticket/**"], source: "principal" },
      { actions: ["matrix/join", "matrix/create-room"], source: "principal-shorthand" },
      { actions: ["service/discover"], targets: ["service/stt/*"], source: "principal-shorthand" },
    ]);
  });

  test("never contain a denied action, although a proxy knows no denials", () => {
    const { grants } = new World().sandbox(
      { authorization: { grants: [{ actions: ["matrix/**"] }] }, matrix_policy: { allow_invite: true } },
      { default_policy: { denials: [{ actions: ["matrix/invite", "matrix/raw-*"], targets: ["x:y"] }] } },
    );
    expect(grants).toEqual([{ actions: ["matrix/join", "matrix/create-room"], source: "principal" }]);
  });
});

describe.each([10, 300])("of %p principals, a resolver computes only what changed", (count) => {
  const names = Array.from({ length: count }, (_, index) => `n${index}`);
  const world = new World();
  for (const name of [...names, "more"]) world.credentials(name);
  const resolver = new DesiredResolver({ machine, server, localpartBytesMax: 84 });
  // As a homeserver sends it: other objects each time.
  const written = (principals: unknown[]): MachineConfig => ({ principals: structuredClone(principals) });
  const all = names.map((name) => assignment({ principal: user(name) }));
  let config = written(all);
  const computedFor = (change: () => void) => {
    const before = resolver.computed;
    change();
    const kept = resolver.resolve(world.snapshot(config));
    const fresh = new DesiredResolver({ machine, server, localpartBytesMax: 84 });
    expect([...kept.principals]).toEqual([...fresh.resolve(world.snapshot(config)).principals]);
    const after = resolver.computed;
    return Object.fromEntries(
      Object.entries(after).map(([part, times]) => [part, times - before[part as keyof typeof before]]),
    );
  };
  computedFor(() => {});
  const none = { configurations: 0, assignments: 0, templates: 0, principals: 0 };
  const rooms = { ...none, configurations: 1 };

  test("nothing when no room changed", () => {
    expect(computedFor(() => {})).toEqual(none);
  });

  test("nothing about a principal when the same configuration is written again", () => {
    expect(computedFor(() => (config = written(all)))).toEqual(rooms);
  });

  test("one assignment when one is added, and none when one is taken out", () => {
    const added = [assignment({ principal: user("more") }), ...all];
    expect(computedFor(() => (config = written(added)))).toEqual({ ...rooms, assignments: 1, principals: 1 });
    expect(computedFor(() => (config = written(all)))).toEqual(rooms);
  });

  test("one principal when its credentials change", () => {
    const rotate = () => world.credentials("n3", { ciphertext: "b3RoZXI=" });
    expect(computedFor(rotate)).toEqual({ ...rooms, principals: 1 });
  });

  test("one template and every principal that has it when a template changes", () => {
    const edit = () => world.template("plain", { command: ["other"] });
    expect(computedFor(edit)).toEqual({ ...rooms, templates: 1, principals: count });
  });

  test("nothing about a principal when a template that it does not have changes", () => {
    expect(computedFor(() => world.template("unused", { command: ["x"] }))).toEqual(rooms);
  });

  test("every principal when the machine's policy changes", () => {
    const grants = [{ actions: ["service/discover"], targets: ["**"] }];
    const change = () => (config = { ...written(all), default_policy: { grants } });
    expect(computedFor(change)).toEqual({ ...rooms, principals: count });
  });
});

describe("a required service", () => {
  const bound = (world: World): string => {
    const provider = world.announce("tickets");
    world.bind(configRoom, "ticket", provider);
    return provider;
  };

  test("is the one its role is bound to, and costs nothing when none is required", () => {
    const world = new World();
    bound(world);
    expect<unknown>(world.ticket()).toEqual([
      { role: "ticket", socketName: "ticket", provider: "service/tickets", hearsRevocations: true },
    ]);
    expect(world.sandbox().services).toBeUndefined();
  });

  test("is bound in the workspace's room before the config room", () => {
    const world = new World();
    bound(world);
    world.bind(projectRoom, "ticket", world.announce("local"));
    world.put(projectRoom, "m.ready", "", { ok: true });
    const start_condition = { event_type: "m.ready", state_key: "", room_alias: "#project:bureau.test" };
    expect(world.ticket({ start_condition })).toMatchObject([{ provider: "service/local" }]);
    expect(world.ticket({ payload: { WORKSPACE_ROOM_ID: projectRoom } })).toMatchObject([
      { provider: "service/local" },
    ]);
    expect(world.ticket()).toMatchObject([{ provider: "service/tickets" }]);
  });

  test("is waited for, with the reason: no binding, not announced, withdrawn, another machine, endpoint", () => {
    const world = new World();
    expect(world.ticket()).toContain('a binding of the service role "ticket"');
    world.bind(configRoom, "ticket", "@bureau/fleet/test/service/tickets:bureau.test");
    expect(world.ticket()).toContain("to announce itself");
    world.announce("tickets", { machine: "@bureau/fleet/test/machine/other:bureau.test" });
    expect(world.ticket()).toContain("reaches services of its own machine only");
    world.announce("tickets", { endpoints: { http: "service.sock" } });
    expect(world.ticket()).toContain('no endpoint "cbor"');
    world.announce("tickets", { endpoints: { cbor: "../../../launcher.sock" } });
    expect(world.ticket()).toContain('reaches "service.sock" only');
    world.announce("tickets", { principal: "" });
    expect(world.ticket()).toContain("to announce itself");
    world.announce("tickets");
    expect(world.ticket()).toHaveLength(1);
  });

  test("is never an agent, nor of another fleet, nor announced by a stranger", () => {
    const world = new World();
    for (const other of [
      "@bureau/fleet/test/agent/a:bureau.test",
      "@bureau/fleet/other/service/a:bureau.test",
    ]) {
      world.bind(configRoom, "ticket", other);
      world.put(serviceRoom, eventTypes.service, other.slice(1), {
        principal: other,
        machine: `@${machine}:${server}`,
        endpoints: { cbor: "service.sock" },
      });
      expect(world.ticket()).toContain("it is no service of the fleet");
    }
    const key = "bureau/fleet/test/service/forged:bureau.test";
    world.bind(configRoom, "ticket", `@${key}`);
    const forged = {
      principal: `@${key}`,
      machine: `@${machine}:${server}`,
      endpoints: { cbor: "service.sock" },
    };
    world.putAs("@mallory:bureau.test", serviceRoom, eventTypes.service, key, forged);
    expect(world.ticket()).toContain("to announce itself");
  });

  test("is not bound by a user without power in the room", () => {
    const world = new World();
    bound(world);
    world.putAs("@mallory:bureau.test", configRoom, eventTypes.serviceBinding, "ticket", {
      principal: world.announce("evil"),
    });
    expect(world.ticket()).toContain("a binding of the service role");
  });
});
