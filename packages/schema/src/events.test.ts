import { describe, expect, test } from "bun:test";
import type { GenericSchema } from "valibot";
import {
  CredentialsSchema,
  eventMessages,
  eventTypes,
  isCleared,
  MachineConfigSchema,
  MachineInfoSchema,
  MachineKeySchema,
  MachineStatusSchema,
  PowerLevelsSchema,
  PrincipalAssignmentSchema,
  ServiceSchema,
} from "./events.ts";
import { InputError, parse } from "./parse.ts";

const refuses = (schema: GenericSchema, value: unknown): void =>
  expect(() => parse(schema, value, "event"), JSON.stringify(value)).toThrow(InputError);

test("type strings and msgtypes have the wire's form, each used once", () => {
  const bureau = [...Object.values(eventTypes), ...Object.values(eventMessages)] as string[];
  for (const type of bureau) expect(type).toMatch(/^m\.(bureau|room)\.[a-z_]+$/);
  expect(new Set(bureau).size).toBe(bureau.length);
});

describe("assignments", () => {
  const least = { principal: "@b/fleet/p/agent/x:s", template: "b/template:agent", auto_start: true };

  test("need a principal, a template and auto_start", () => {
    expect(parse(PrincipalAssignmentSchema, least, "a") as unknown).toEqual(least);
    for (const key of Object.keys(least)) refuses(PrincipalAssignmentSchema, { ...least, [key]: undefined });
    refuses(PrincipalAssignmentSchema, { ...least, principal: "@alice:s" });
    refuses(PrincipalAssignmentSchema, { ...least, principal: "agent/x" });
    refuses(PrincipalAssignmentSchema, { ...least, template: "agent" });
    refuses(PrincipalAssignmentSchema, { ...least, auto_start: "yes" });
  });

  test('read "" as unset and null as an empty list', () => {
    const parsed = parse(
      PrincipalAssignmentSchema,
      {
        ...least,
        template: "",
        restart_policy: "",
        environment_override: "",
        command_override: null,
        extra_inherits: null,
        secrets_override: null,
        start_condition: { event_type: "m.x", state_key: "", room_alias: "" },
        unknown_field: 1,
      },
      "a",
    );
    expect(parsed.template).toBe("");
    expect(parsed.restart_policy).toBeUndefined();
    expect(parsed.command_override).toEqual([]);
    expect(parsed.secrets_override).toBeNull();
    expect(parsed.start_condition?.room_alias).toBeUndefined();
    expect(parsed).not.toContainKey("unknown_field");
  });

  test("refuse an unknown restart policy and a start condition without a type", () => {
    refuses(PrincipalAssignmentSchema, { ...least, restart_policy: "sometimes" });
    refuses(PrincipalAssignmentSchema, { ...least, start_condition: { event_type: "", state_key: "" } });
    refuses(PrincipalAssignmentSchema, { ...least, start_condition: { event_type: "m.x" } });
    refuses(PrincipalAssignmentSchema, {
      ...least,
      start_condition: { event_type: "m.x", state_key: "", content_match: { a: null } },
    });
  });

  test("a faulty entry does not invalidate its configuration", () => {
    const config = parse(MachineConfigSchema, { principals: [least, { nonsense: true }] }, "config");
    expect(config.principals).toHaveLength(2);
    expect(parse(MachineConfigSchema, { principals: null }, "config").principals).toEqual([]);
    refuses(MachineConfigSchema, { principals: "x" });
  });
});

describe("machine events", () => {
  test("a key is an age recipient", () => {
    expect(parse(MachineKeySchema, { algorithm: "age-x25519", public_key: "age1abc" }, "k")).toBeDefined();
    refuses(MachineKeySchema, { algorithm: "age-x25519", public_key: "AGE-SECRET-KEY-1" });
    refuses(MachineKeySchema, { algorithm: "rsa", public_key: "age1abc" });
    refuses(MachineKeySchema, {});
  });

  test("information and status have whole numbers and a machine", () => {
    const info = {
      principal: "@b/fleet/p/machine/m:s",
      hostname: "h",
      kernel_version: "6",
      board_vendor: "",
      cpu: { model: "c", sockets: 1, cores_per_socket: 2, threads_per_core: 2 },
      memory_total_mb: 1024,
      gpus: null,
      daemon_version: "1",
    };
    expect(parse(MachineInfoSchema, info, "i").gpus).toEqual([]);
    refuses(MachineInfoSchema, { ...info, memory_total_mb: 1.5 });
    refuses(MachineInfoSchema, { ...info, principal: "" });
    const status = {
      principal: "@b/fleet/p/machine/m:s",
      cpu_percent: 5,
      memory_used_mb: 5,
      sandboxes: { running: 1, idle: 0 },
      uptime_seconds: 5,
      principals: { "agent/x": { cpu_percent: 0, memory_mb: 1, status: "running" } },
    };
    expect(parse(MachineStatusSchema, status, "s").principals?.["agent/x"]?.status).toBe("running");
    refuses(MachineStatusSchema, {
      ...status,
      principals: { x: { cpu_percent: 0, memory_mb: 1, status: "?" } },
    });
  });

  test("credentials have a ciphertext, so that a cleared event is not one", () => {
    const credentials = {
      version: 1,
      principal: "@b/fleet/p/agent/x:s",
      encrypted_for: null,
      keys: ["A"],
      ciphertext: "YWJj",
      provisioned_by: "@a:s",
      provisioned_at: "2026-01-01T00:00:00Z",
      expires_at: "",
    };
    expect(parse(CredentialsSchema, credentials, "c").encrypted_for).toEqual([]);
    refuses(CredentialsSchema, { ...credentials, ciphertext: "" });
    refuses(CredentialsSchema, {});
    expect([isCleared({}), isCleared({ a: undefined })]).toEqual([true, false]);
  });

  test("a service without a principal is deregistered", () => {
    expect(parse(ServiceSchema, { principal: "", machine: "" }, "s").principal).toBeUndefined();
    expect(parse(ServiceSchema, {}, "s").principal).toBeUndefined();
    refuses(ServiceSchema, { principal: "x" });
  });

  test("power levels are whole numbers", () => {
    expect(parse(PowerLevelsSchema, { users: { "@a:s": 100 }, ban: 50 }, "p").users).toEqual({ "@a:s": 100 });
    refuses(PowerLevelsSchema, { users: { "@a:s": "100" } });
    refuses(PowerLevelsSchema, { events_default: 0.5 });
  });
});
