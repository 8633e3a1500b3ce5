/** Units: installed as this version writes them, enabled, running. */
import { isTemplate } from "@bureau/os/systemctl";
import { REVOKED, tmuxServerUnit } from "@bureau/os/unit-names";
import type { Action } from "../resources/registry.ts";
import { type UnitFile, unitFiles } from "../units/unit-files.ts";
import {
  byFix,
  type Check,
  type Finding,
  fail,
  pass,
  type Remedy,
  remedyOf,
  skip,
  systemOnly,
  warn,
} from "./check.ts";
import type { HostView } from "./host-view.ts";
import { rootFile } from "./root-file.ts";

const scope = systemOnly("a rootless instance has a supervisor instead");

/** A restart of these would end every sandbox, so a new text waits for their next start. */
const holdsSandboxes = (unit: string): boolean =>
  unit === tmuxServerUnit || unit.endsWith(".slice") || isTemplate(unit);

export const systemdChecks: readonly Check[] = unitFiles.flatMap((unit) => [
  installedCheck(unit),
  ...(unit.enabled ? [enabledCheck(unit)] : []),
  ...(unit.active ? [activeCheck(unit)] : []),
]);

function installedCheck(unit: UnitFile): Check {
  return {
    id: `unit:${unit.name}`,
    group: "systemd",
    title: unit.name,
    expected: `${unit.path} as this version writes it, loaded by systemd, without drop-ins`,
    repair: byFix("writes it, reloads systemd, and restarts what runs from it (never sandboxes)"),
    scope,
    run: (host) => installation(host, unit),
  };
}

async function installation(host: HostView, unit: UnitFile): Promise<Finding> {
  const file = rootFile(unit);
  const state = (await host.units()).get(unit.name);
  const reload: Action = { kind: "reload" };
  if (file.status === "fail") {
    const restart: Action[] =
      unit.active && state?.active === "active" && !holdsSandboxes(unit.name)
        ? [{ kind: "restart", unit: unit.name }]
        : [];
    return { ...file, actions: [...(remedyOf(file).actions ?? []), reload, ...restart] };
  }
  if (state?.load === "not-found" || state?.load === "bad-setting" || state?.load === "error")
    return fail(`systemd reports ${state.load}`, { actions: [reload] });
  if (state?.needsReload === true) return fail("systemd has not loaded this text yet", { actions: [reload] });
  const dropIns = state?.dropIns.filter((path) => path.includes(unit.name)) ?? [];
  if (dropIns.length > 0)
    return warn(`overridden by ${dropIns.join(", ")}`, {
      hint: `unless you want that: sudo systemctl revert ${unit.name}`,
    });
  return file;
}

function enabledCheck(unit: UnitFile): Check {
  return {
    id: `enabled:${unit.name}`,
    group: "systemd",
    title: `${unit.name} at boot`,
    expected: "enabled",
    repair: byFix("enables it"),
    scope,
    run: async (host) => {
      const state = (await host.units()).get(unit.name);
      const found = state?.enablement || "not installed";
      if (found === "enabled") return pass(found);
      if (waitsForJoining(host)) return skip(NOT_JOINED);
      return fail(found, { actions: [{ kind: "enable", unit: unit.name }] });
    },
  };
}

function activeCheck(unit: UnitFile): Check {
  return {
    id: `active:${unit.name}`,
    group: "systemd",
    title: `${unit.name} now`,
    expected: "active",
    repair: byFix("starts it"),
    scope,
    run: (host) => activity(host, unit),
  };
}

const NOT_JOINED = "waits until this machine has joined its fleet";

/** Without a key and a session, a started unit fails and restarts forever. */
const waitsForJoining = (host: HostView): boolean => !host.hasJoined() && !host.hasBootstrap;

/** systemd cannot open a socket again while its service runs on the old one. */
async function startOf(host: HostView, unit: string): Promise<Action> {
  const service = (await host.units()).get(unit.replace(/\.socket$/, ".service"));
  const isBusy = unit.endsWith(".socket") && service?.active === "active";
  return { kind: isBusy ? "restart" : "start", unit };
}

async function activity(host: HostView, unit: UnitFile): Promise<Finding> {
  const state = (await host.units()).get(unit.name);
  const start: Remedy = { actions: [await startOf(host, unit.name)] };
  const found = state === undefined ? "unknown" : `${state.active} (${state.sub})`;
  if (state?.active === "active")
    return pass(state.restarts > 0 ? `${found}, restarted ${state.restarts}×` : found);
  if (waitsForJoining(host))
    return state?.active === "activating"
      ? fail(`${found}, but this machine has not joined`, {
          actions: [{ kind: "stop", units: [unit.name] }],
        })
      : skip(NOT_JOINED);
  if (state === undefined) return fail(found, start);
  if (state.exitStatus === REVOKED)
    return fail("exited because this machine's session was revoked", {
      hint: "the check machine-session tells how to repair it",
    });
  if (state.active === "activating" && state.sub !== "auto-restart") return warn(found);
  return fail(
    state.result === "success" || state.result === ""
      ? found
      : `${found}: ${state.result}, exit code ${state.exitStatus}`,
    {
      hint: `journalctl -u ${unit.name} -n 30`,
      ...start,
    },
  );
}
