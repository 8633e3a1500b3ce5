import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInstance, findInstance, layoutFor, machineNameFrom } from "./instance.ts";

describe("an instance", () => {
  test("keeps the first choices for every later command", () => {
    const home = mkdtempSync(join(tmpdir(), "bi-"));
    try {
      const layout = layoutFor(home, {});
      expect(findInstance(layout)).toBeUndefined();
      const made = createInstance(layout, "127.0.0.1:6167");
      expect(findInstance(layout)).toEqual(made);
      expect(made.machine.startsWith("bureau/fleet/local/machine/")).toBe(true);
      writeFileSync(layout.instanceFile, '{"version":1}');
      expect(() => findInstance(layout)).toThrow("homeserver_url");
    } finally {
      rmSync(home, { recursive: true });
    }
  });

  test.each([
    ["Box.example.org", "box"],
    ["My Laptop!", "my-laptop"],
    ["---", "machine"],
    ["", "machine"],
    ["ünïcode", "n-code"],
    ["a".repeat(80), "a".repeat(24)],
  ])("the host %p gives the machine name %p", (host, name) => {
    expect(machineNameFrom(host)).toBe(name);
  });
});
