/** Whose events count. */
import { describe, expect, test } from "bun:test";
import { counts, ignoredBecause, isGuarded } from "./event-writers.ts";
import { eventTypes } from "./events.ts";
import { powerIn } from "./power.ts";

const machine = "bureau/fleet/local/machine/m1:server";
const levels = { users: { "@admin:server": 100, [`@${machine}`]: 50 }, users_default: 0 };
const levelOf = powerIn({ levels, create: undefined });
const from = (type: string, sender: string, stateKey = machine) => ({ type, sender, stateKey });

describe("an event of a machine's own", () => {
  const own = [
    eventTypes.machineKey,
    eventTypes.machineStatus,
    eventTypes.machineVersion,
    eventTypes.machineDecommissioned,
    eventTypes.tokenSigningKey,
  ];
  test.each(own)("%s counts only from the machine, not even from an administrator", (type) => {
    expect(counts(from(type, `@${machine}`), levelOf)).toBe(true);
    for (const other of ["@admin:server", "@bureau/fleet/local/machine/m2:server", `@${machine}.other`])
      expect(counts(from(type, other), levelOf)).toBe(false);
  });

  test("of the same name on another server does not count", () => {
    expect(counts(from(eventTypes.machineKey, `@${machine.split(":")[0]}:elsewhere`), levelOf)).toBe(false);
  });
});

describe("desired state", () => {
  test.each([eventTypes.credentials, eventTypes.machineDecommission, eventTypes.authorization])(
    "%s counts from administrators only",
    (type) => {
      expect(counts(from(type, "@admin:server"), levelOf)).toBe(true);
      expect(counts(from(type, `@${machine}`), levelOf)).toBe(false);
    },
  );

  test("a temporal grant is read from every member: the daemon asks whether its sender may give it", () => {
    expect(counts(from(eventTypes.temporalGrant, "@admin:server"), levelOf)).toBe(true);
    expect(counts(from(eventTypes.temporalGrant, "@bureau/fleet/local/agent/a:server"), levelOf)).toBe(true);
  });

  test("a machine's configuration counts from the machine and those above it, not from its agents", () => {
    expect(counts(from(eventTypes.machineConfig, `@${machine}`), levelOf)).toBe(true);
    expect(counts(from(eventTypes.machineConfig, "@bureau/fleet/local/agent/a:server"), levelOf)).toBe(false);
  });
});

test("labels in a machine's facts come from operators, and from no other machine", () => {
  expect(counts(from(eventTypes.machineInfo, "@admin:server"), levelOf)).toBe(true);
  expect(counts(from(eventTypes.machineInfo, "@bureau/fleet/local/machine/m2:server"), levelOf)).toBe(false);
});

test("foreign types count from every sender that the room's levels allow", () => {
  expect(isGuarded("m.bureau.workspace")).toBe(false);
  expect(counts(from("m.bureau.workspace", "@anybody:server"), levelOf)).toBe(true);
});

test("the reason names the event, its writer and who may write it", () => {
  expect(ignoredBecause(from(eventTypes.machineKey, "@mallory:server"))).toBe(
    `m.bureau.machine_key of "${machine}" is ignored: @mallory:server wrote it, and only @${machine} may`,
  );
});

describe("power in a room", () => {
  const create = { sender: "@maker:server", content: { room_version: "12" } };
  test("of a version with privileged creators belongs to them without a level", () => {
    expect(powerIn({ levels: {}, create })("@maker:server")).toBe(Number.POSITIVE_INFINITY);
    const old = { ...create, content: { room_version: "11" } };
    expect(powerIn({ levels: {}, create: old })("@maker:server")).toBe(0);
  });
  test("without levels belongs to the creator; unreadable levels give none", () => {
    const old = { ...create, content: {} };
    expect(powerIn({ levels: undefined, create: old })("@maker:server")).toBe(100);
    expect(powerIn({ levels: { users: "all" }, create: old })("@maker:server")).toBe(0);
  });
  test("never comes from a property that every object has", () => {
    expect(powerIn({ levels: { users_default: 0 }, create: undefined })("constructor")).toBe(0);
  });
});
