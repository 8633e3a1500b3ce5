/** Units and socket units: installed as this version writes them, enabled, running. */
import { isTemplate } from "@bureau/os/systemctl";
import { REVOKED, terminalsUnit } from "@bureau/os/unit-names";
import type { Action } from "../resources/registry.ts";
import { type UnitFile, unitFiles } from "../units/units.ts";
import { type Check, type Finding, fail, pass, skip, warn } from "./check.ts";
import { rootFile } from "./configuration-checks.ts";
import type { HostView } from "./host-view.ts";

const noUnits = "a rootless instance has a supervisor instead";

/** What holds every sandbox: restarting it would end them all, so a new text waits for the next start. */
const holdsSandboxes = (unit: string): boolean =>
  unit === terminalsUnit || unit.endsWith(".slice") || isTemplate(unit);

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
    expected: `${unit.path} as this version writes it, read by systemd, nothing overriding it`,
    repair: "written, systemd told, and what runs from it restarted (never sandboxes)",
    systemOnly: noUnits,
    probe: async (host) => {
      const file = rootFile(unit);
      const state = (await host.units()).get(unit.name);
      if (file.status !== "pass") {
        const restart: Action[] =
          unit.active && state?.active === "active" && !holdsSandboxes(unit.name)
            ? [{ kind: "restart", unit: unit.name }]
            : [];
        return { ...file, actions: [...(file.actions ?? []), { kind: "reload" }, ...restart] };
      }
      if (state?.load === "not-found" || state?.load === "bad-setting" || state?.load === "error")
        return fail(`systemd says ${state.load}`, { actions: [{ kind: "reload" }] });
      if (state?.needsReload === true)
        return fail("systemd has not read it yet", { actions: [{ kind: "reload" }] });
      const dropIns = state?.dropIns.filter((path) => path.includes(unit.name)) ?? [];
      return dropIns.length === 0
        ? pass("as written")
        : warn(`overridden by ${dropIns.join(", ")}`, {
            hint: `if nobody meant that: sudo systemctl revert ${unit.name}`,
          });
    },
  };
}

function enabledCheck(unit: UnitFile): Check {
  return {
    id: `enabled:${unit.name}`,
    group: "systemd",
    title: `${unit.name} at boot`,
    expected: "enabled",
    repair: "enabled",
    systemOnly: noUnits,
    probe: async (host) => {
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
    repair: "started",
    systemOnly: noUnits,
    probe: (host) => activity(host, unit),
  };
}

const NOT_JOINED = "once this machine has joined its fleet";

/** Without a key and a session, a started unit fails and restarts forever. */
const waitsForJoining = (host: HostView): boolean => !host.hasJoined() && !host.hasBootstrap;

/** A socket cannot be opened anew while its service runs on the old one. */
async function startOf(host: HostView, unit: string): Promise<Action> {
  const service = (await host.units()).get(unit.replace(/\.socket$/, ".service"));
  const isBusy = unit.endsWith(".socket") && service?.active === "active";
  return { kind: isBusy ? "restart" : "start", unit };
}

async function activity(host: HostView, unit: UnitFile): Promise<Finding> {
  const state = (await host.units()).get(unit.name);
  const start: Pick<Finding, "actions"> = { actions: [await startOf(host, unit.name)] };
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
    return fail("it ended because this machine's session was revoked", {
      hint: "the check machine-session says what to do",
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
