import { describe, expect, test } from "bun:test";
import { machineLevel, powerLevels, roomKinds } from "./room-catalogue.ts";

describe("power levels of the rooms", () => {
  test("nobody holds power by being named, and everybody else holds none", () => {
    for (const kind of roomKinds) {
      const levels = powerLevels(kind);
      expect(levels.users).toBeUndefined();
      expect(levels.users_default).toBe(0);
    }
  });

  test("only the administrator may change the shape of any room", () => {
    for (const kind of roomKinds) {
      const { events } = powerLevels(kind);
      for (const type of ["m.room.power_levels", "m.room.name", "m.room.join_rules", "m.bureau.dev_team"])
        expect(events?.[type]).toBe(100);
    }
  });

  test("a machine writes its own assignments' room but not credentials", () => {
    const levels = powerLevels("config");
    expect(machineLevel("config")).toBe(50);
    expect(levels.events?.["m.bureau.machine_config"]).toBe(50);
    expect(levels.events?.["m.bureau.credentials"]).toBe(100);
    expect(levels.events?.["m.room.message"]).toBe(0);
    expect(levels.events_default).toBe(100);
  });

  test("machines publish themselves in the fleet's machine room, with no power there", () => {
    const levels = powerLevels("fleet-machines");
    expect(machineLevel("fleet-machines")).toBe(0);
    for (const type of ["m.bureau.machine_key", "m.bureau.machine_info", "m.bureau.machine_status"])
      expect(levels.events?.[type]).toBe(0);
    expect(levels.state_default).toBe(100);
  });

  test("templates are written by the administrator alone", () => {
    expect(powerLevels("template").state_default).toBe(100);
    expect(machineLevel("template")).toBe(0);
  });
});
