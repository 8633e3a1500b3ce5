import { describe, expect, test } from "bun:test";
import { counts } from "@bureau/schema/event-writers";
import { eventTypes } from "@bureau/schema/events";
import { machineLevel, missingLevels, powerLevels, roomKinds } from "./room-catalogue.ts";

describe("power levels of the rooms", () => {
  test("give power only to listed users, and none to every other user", () => {
    for (const kind of roomKinds) {
      const levels = powerLevels(kind);
      expect(levels.users).toBeUndefined();
      expect(levels.users_default).toBe(0);
    }
  });

  test("let only the administrator change the settings of any room", () => {
    for (const kind of roomKinds) {
      const { events } = powerLevels(kind);
      for (const type of ["m.room.power_levels", "m.room.name", "m.room.join_rules", "m.bureau.dev_team"])
        expect(events?.[type]).toBe(100);
    }
  });

  test("let a machine write in its own config room, but not credentials", () => {
    const levels = powerLevels("config");
    expect(machineLevel("config")).toBe(50);
    expect(levels.events?.["m.bureau.machine_config"]).toBe(50);
    expect(levels.events?.["m.bureau.credentials"]).toBe(100);
    expect(levels.events?.["m.room.message"]).toBe(0);
    expect(levels.events_default).toBe(100);
  });

  test("let an invited member of a config room write messages and agents' sessions, and no other state", () => {
    const { events = {}, state_default } = powerLevels("config");
    expect(state_default).toBe(50);
    const open = Object.entries(events).filter(([, level]) => level < 50);
    expect(open.map(([type]) => type).sort()).toEqual([
      ...["m.bureau.agent_context", "m.bureau.agent_metrics", "m.bureau.agent_session", "m.room.message"],
    ]);
    for (const type of ["m.bureau.authorization", "m.bureau.temporal_grant"]) expect(events[type]).toBe(100);
  });

  test("let machines publish themselves in the fleet's machine room, without power there", () => {
    const levels = powerLevels("fleet-machines");
    expect(machineLevel("fleet-machines")).toBe(0);
    for (const type of ["m.bureau.machine_key", "m.bureau.machine_info", "m.bureau.machine_status"])
      expect(levels.events?.[type]).toBe(0);
    expect(levels.state_default).toBe(100);
  });

  test("name a machine in its own rooms alone, so that no shared room fills up with machines", () => {
    expect(roomKinds.filter((kind) => machineLevel(kind) > 0)).toEqual(["config", "ops"]);
  });

  test("open in rooms that machines share only facts, which count from their owner alone, and no invitation", () => {
    const open = (["system", "pipeline", "fleet-services"] as const).map((kind) => {
      const { events = {}, state_default = 0, invite = 0 } = powerLevels(kind);
      expect(state_default).toBe(100);
      expect(invite).toBeGreaterThanOrEqual(50);
      return Object.keys(events).filter((type) => (events[type] ?? 0) < 50);
    });
    expect(open).toEqual([[eventTypes.tokenSigningKey], [], [eventTypes.service]]);
    for (const type of open.flat())
      expect(counts({ type, stateKey: "other:s", sender: "@agent:s" }, () => 0)).toBe(false);
  });

  test("let only the administrator write templates", () => {
    expect(powerLevels("template").state_default).toBe(100);
    expect(machineLevel("template")).toBe(0);
  });
});

describe("levels of an existing room", () => {
  test("stay when they match the room's kind, or are stricter", () => {
    for (const kind of roomKinds) {
      expect(missingLevels(kind, powerLevels(kind))).toBeUndefined();
      expect(
        missingLevels(kind, {
          state_default: 100,
          events_default: 100,
          invite: 100,
          redact: 100,
          kick: 100,
          ban: 100,
        }),
      ).toBeUndefined();
    }
  });

  test("are raised from the wire's defaults; the result names types that were open", () => {
    const wire = {
      ...powerLevels("config"),
      state_default: 0,
      events: { "m.room.message": 0, "m.bureau.machine_config": 50, "m.bureau.layout": 0, "m.other": 3 },
    };
    const lacking = missingLevels("config", wire);
    expect(lacking?.state_default).toBe(50);
    expect(lacking?.events).toMatchObject({ "m.bureau.layout": 50, "m.bureau.agent_session": 0 });
    expect(Object.keys(lacking?.events ?? {})).not.toContain("m.bureau.machine_config");
    expect(lacking).not.toHaveProperty("events_default");
  });

  test("of users without a level of their own are lowered", () => {
    expect(missingLevels("template", { ...powerLevels("template"), users_default: 50 })).toEqual({
      users_default: 0,
    });
  });
});
