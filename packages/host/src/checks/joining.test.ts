import { describe, expect, test } from "bun:test";
import type { UnitState } from "@bureau/os/systemctl";
import { planOf } from "../doctor/doctor.ts";
import { describeAction } from "../resources/registry.ts";
import { unitFiles } from "../units/unit-files.ts";
import { adviceOn } from "./advice.ts";
import type { Check, Finding } from "./check.ts";
import { checkTable } from "./check-table.ts";
import type { HostView } from "./host-view.ts";
import { joinAgain } from "./joining.ts";
import { runChecks } from "./run-checks.ts";
import { systemdChecks } from "./systemd-checks.ts";

const installed: UnitState = {
  active: "inactive",
  sub: "dead",
  pid: undefined,
  restarts: 0,
  exitStatus: 0,
  result: "success",
  load: "loaded",
  enablement: "disabled",
  dropIns: [],
  needsReload: false,
};

function host(given: Partial<HostView>, units: Readonly<Record<string, Partial<UnitState>>> = {}): HostView {
  const states = new Map(unitFiles.map(({ name }) => [name, { ...installed, ...units[name] }]));
  return {
    kind: "system",
    isRoot: true,
    hasBootstrap: false,
    hasJoined: () => false,
    units: async () => states,
    layout: { stateDir: "/nowhere", runDir: "/nowhere" },
    ...given,
  } as unknown as HostView;
}

/** Enabled and running units, which need a joined machine. */
const atWork = systemdChecks.filter(({ id }) => !id.startsWith("unit:"));
const plan = async (view: HostView): Promise<string[]> =>
  planOf(await runChecks(atWork, view)).map(({ action }) => describeAction(action));

describe("a host that has not joined its fleet", () => {
  test("enables and starts nothing in a fix without a bootstrap file", async () => {
    expect(await plan(host({}))).toEqual([]);
    const findings = await runChecks(atWork, host({}));
    expect(new Set(findings.map(({ finding }) => finding.status))).toEqual(new Set(["skip"]));
  });

  test("stops a launcher that restarts again and again without a key", async () => {
    const loops = { active: "activating", sub: "auto-restart", exitStatus: 243, enablement: "enabled" };
    expect(await plan(host({}, { "bureau-launcher.service": loops }))).toEqual([
      "stop bureau-launcher.service",
    ]);
  });

  test("shows every action when the bootstrap file comes later", async () => {
    const steps = await plan(host({ hasBootstrap: true }));
    for (const { name, enabled, active } of unitFiles) {
      expect(steps.includes(`enable ${name}`)).toBe(enabled);
      expect(steps.includes(`start ${name}`)).toBe(active);
    }
  });

  test("leaves running programs alone: only their session may be lost", async () => {
    const runs = { active: "active", sub: "running", enablement: "enabled" };
    expect(await plan(host({}, { "bureau-launcher.service": runs }))).toEqual([]);
  });
});

test("joining again makes a new key before it joins, and without a bootstrap file shows how to get one", () => {
  const steps = joinAgain(host({ hasBootstrap: true })).actions?.map(({ kind }) => kind) ?? [];
  expect(steps.slice(0, 4)).toEqual(["stop", "remove", "seal-key", "join"]);
  expect(joinAgain(host({})).hint).toContain("machine provision");
});

describe("a state that the user may not read", () => {
  const refused = (code: string): Check => ({
    ...(checkTable[0] as Check),
    run: () => {
      throw new Error("cannot read", { cause: Object.assign(new Error("permission denied"), { code }) });
    },
  });
  const findingOf = async (check: Check, isRoot: boolean): Promise<Finding | undefined> =>
    (await runChecks([check], host({ isRoot })))[0]?.finding;

  test("is skipped for an ordinary user in every check, and fails for root", async () => {
    expect(await findingOf(refused("EACCES"), false)).toMatchObject({ status: "skip", because: "hidden" });
    expect(await findingOf(refused("EPERM"), false)).toMatchObject({ status: "skip", because: "hidden" });
    expect((await findingOf(refused("EACCES"), true))?.status).toBe("fail");
    expect((await findingOf(refused("EIO"), false))?.status).toBe("fail");
  });
});

test("a failed check without a fix always has a hint", () => {
  for (const check of checkTable) {
    const advice = adviceOn(check, { status: "fail", found: "wrong" });
    expect(advice).not.toBe("");
    expect(advice).not.toStartWith("by hand");
  }
});
