import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInstance, layoutFor } from "@bureau/instance/instance";
import { noEgressSettings } from "@bureau/os/egress";
import { formatMachineConf } from "@bureau/os/machine-conf";
import { parseFleet, parseMachine, parseServerName } from "@bureau/schema/refs";
import {
  credentialFile,
  defaultFleet,
  fleetFile,
  machineOf,
  namespaceOfInvocation,
  principalOf,
  sessionFile,
} from "./operator.ts";
import type { FleetValue, SessionValues } from "./shared-flags.ts";
import { openTerminal } from "./terminal.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "bop-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

type Given = Partial<SessionValues & FleetValue>;

const invocation = (given: Given = {}, named = true) => ({
  flags: {
    home: undefined,
    homeserver: undefined,
    "credential-file": undefined,
    "token-file": undefined,
    fleet: undefined,
    ...given,
  },
  terminal: openTerminal({}),
  env: {
    ...(named ? { BUREAU_HOME: join(dir, "home") } : {}),
    XDG_DATA_HOME: join(dir, "data"),
    XDG_CONFIG_HOME: join(dir, "config"),
    BUREAU_MACHINE_CONF: join(dir, "machine.conf"),
  },
});
const fleet = parseFleet("acme/fleet/prod");

function beMachine(): void {
  const conf = {
    homeserverUrl: "http://localhost:6167",
    machine: parseMachine("acme/fleet/prod/machine/box"),
    fleet,
    serverName: parseServerName("acme.test"),
    systemUser: "bureau",
    operatorsGroup: "bureau-operators",
    ...noEgressSettings,
  };
  writeFileSync(join(dir, "machine.conf"), formatMachineConf(conf));
}

describe("a person without a Bureau here", () => {
  test("names the fleet, or a machine in full, and needs nothing else", () => {
    expect(defaultFleet(invocation({ fleet }))).toBe(fleet);
    expect(machineOf(invocation({ fleet }), "gpu")).toBe(parseMachine("acme/fleet/prod/machine/gpu"));
    for (const typed of ["acme/fleet/prod/machine/gpu", "@acme/fleet/prod/machine/gpu:acme.test"])
      expect(machineOf(invocation(), typed)).toBe(parseMachine("acme/fleet/prod/machine/gpu"));
    expect(String(namespaceOfInvocation(invocation({ fleet })))).toBe("acme");
    expect(String(namespaceOfInvocation(invocation()))).toBe("bureau");
  });

  test("selects a fleet once, and may name another", () => {
    mkdirSync(join(dir, "config/bureau"), { recursive: true });
    writeFileSync(fleetFile(invocation()), "acme/fleet/prod\n");
    expect(defaultFleet(invocation())).toBe(fleet);
    expect(machineOf(invocation(), "gpu")).toBe(parseMachine("acme/fleet/prod/machine/gpu"));
    expect(String(namespaceOfInvocation(invocation()))).toBe("acme");
    const other = parseFleet("acme/fleet/test");
    expect(defaultFleet(invocation({ fleet: other }))).toBe(other);
    writeFileSync(fleetFile(invocation()), "prod\n");
    expect(() => defaultFleet(invocation())).toThrow("Invalid");
  });

  test("otherwise gets an error with the next command", () => {
    expect(() => defaultFleet(invocation())).toThrow("No fleet given");
    expect(() => machineOf(invocation(), "gpu")).toThrow("No fleet given");
    expect(() => machineOf(invocation(), undefined)).toThrow("No machine given");
  });

  test("has session and credentials in the configuration folder", () => {
    expect(sessionFile(invocation())).toBe(join(dir, "config/bureau/session.json"));
    expect(credentialFile(invocation())).toBe(join(dir, "config/bureau/credentials"));
    expect(credentialFile(invocation({ "credential-file": "x" }))).toBe("x");
  });
});

test("a host with machine.conf is the default machine, and its fleet the default fleet", () => {
  beMachine();
  const here = (flags: Given = {}) => invocation(flags, false);
  expect(defaultFleet(here())).toBe(fleet);
  expect(machineOf(here(), undefined)).toBe(parseMachine("acme/fleet/prod/machine/box"));
  expect(machineOf(here(), "gpu")).toBe(parseMachine("acme/fleet/prod/machine/gpu"));
  expect(String(namespaceOfInvocation(here()))).toBe("acme");
});

describe("--fleet is obeyed or refused", () => {
  const other = "acme/fleet/test";
  const here = (flags: Given) => invocation(flags, false);

  test("on a host of another fleet, this machine is not the default", () => {
    beMachine();
    expect(() => machineOf(here({ fleet: other }), undefined)).toThrow(
      `No machine of "${other}" given, and this host is "acme/fleet/prod/machine/box"`,
    );
    expect(machineOf(here({ fleet }), undefined)).toBe(parseMachine("acme/fleet/prod/machine/box"));
    expect(machineOf(here({ fleet: other }), "gpu")).toBe(parseMachine("acme/fleet/test/machine/gpu"));
  });

  test("a machine or an agent named in full must be in that fleet", () => {
    for (const machine of ["acme/fleet/prod/machine/gpu", "@acme/fleet/prod/machine/gpu:acme.test"]) {
      expect(() => machineOf(invocation({ fleet: other }), machine)).toThrow(`not in "${other}"`);
      expect(machineOf(invocation({ fleet }), machine)).toBe(parseMachine("acme/fleet/prod/machine/gpu"));
    }
    const machine = parseMachine("acme/fleet/prod/machine/gpu");
    expect(() => principalOf(machine, `${other}/agent/demo`)).toThrow("is not in the fleet");
    expect(String(principalOf(machine, "acme/fleet/prod/agent/demo"))).toBe("acme/fleet/prod/agent/demo");
  });

  test("an argument that names another fleet contradicts it", () => {
    expect(() => defaultFleet(invocation({ fleet }), other)).toThrow("Two fleets given:");
    expect(defaultFleet(invocation({ fleet }), fleet)).toBe(fleet);
    expect(String(defaultFleet(invocation(), other))).toBe(other);
  });
});

test("--home that names no instance is refused; no other session replaces it", () => {
  beMachine();
  expect(() => sessionFile(invocation({ home: join(dir, "none") }, false))).toThrow("There is no Bureau in");
  expect(() => machineOf(invocation({ home: join(dir, "none") }, false), undefined)).toThrow(
    "There is no Bureau in",
  );
});

test("a named instance takes precedence over machine.conf, and --fleet over both", () => {
  beMachine();
  const layout = layoutFor(undefined, invocation().env);
  Bun.spawnSync(["mkdir", "-p", layout.home]);
  const instance = createInstance(layout, "http://localhost:1");
  expect(defaultFleet(invocation())).toBe(instance.fleet);
  expect(defaultFleet(invocation({ fleet }))).toBe(fleet);
  mkdirSync(join(dir, "config/bureau"), { recursive: true });
  writeFileSync(fleetFile(invocation()), fleet);
  expect(defaultFleet(invocation())).toBe(instance.fleet);
  expect(credentialFile(invocation())).toBe(layout.credentialFile);
});
