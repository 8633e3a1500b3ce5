import { describe, expect, test } from "bun:test";
import { parseUserId } from "@bureau/schema/refs";
import { powerLevels, roomKinds } from "./room-catalogue.ts";

const admin = parseUserId("@bureau-admin:bureau.local");
const machine = parseUserId("@bureau/fleet/local/machine/m1:bureau.local");

describe("power levels of the rooms", () => {
  test("the administrator holds 100 and everybody else 0, in every room", () => {
    for (const kind of roomKinds) {
      const levels = powerLevels(kind, admin);
      expect(levels.users).toEqual({ [admin]: 100 });
      expect(levels.users_default).toBe(0);
    }
  });

  test("only the administrator may change the shape of any room", () => {
    for (const kind of roomKinds) {
      const { events } = powerLevels(kind, admin, machine);
      for (const type of ["m.room.power_levels", "m.room.name", "m.room.join_rules", "m.bureau.dev_team"])
        expect(events?.[type]).toBe(100);
    }
  });

  test("a machine writes its own assignments' room but not credentials", () => {
    const levels = powerLevels("config", admin, machine);
    expect(levels.users?.[machine]).toBe(50);
    expect(levels.events?.["m.bureau.machine_config"]).toBe(50);
    expect(levels.events?.["m.bureau.credentials"]).toBe(100);
    expect(levels.events?.["m.room.message"]).toBe(0);
    expect(levels.events_default).toBe(100);
  });

  test("machines publish themselves in the fleet's machine room, with no power there", () => {
    const levels = powerLevels("fleet-machines", admin, machine);
    expect(levels.users?.[machine]).toBeUndefined();
    for (const type of ["m.bureau.machine_key", "m.bureau.machine_info", "m.bureau.machine_status"])
      expect(levels.events?.[type]).toBe(0);
    expect(levels.state_default).toBe(100);
  });

  test("templates are written by the administrator alone", () => {
    const levels = powerLevels("template", admin, machine);
    expect(levels.state_default).toBe(100);
    expect(levels.users?.[machine]).toBeUndefined();
  });
});
