/** `bureau rollout start`, also `bureau machine upgrade --all` or `--label`: upgrades many machines in order. */
import { isOnline, type ListedMachine } from "@bureau/control/machines/list-machines";
import { configPlace } from "@bureau/control/machines/machine-config";
import {
  beginRollout,
  newRollout,
  type RolloutRequest,
  selectMachines,
} from "@bureau/control/rollouts/begin-rollout";
import { requireRolloutSize } from "@bureau/control/rollouts/rollout-store";
import { previewUpgrade, type UpgradePreview } from "@bureau/control/rollouts/upgrade-preview";
import type { UpgradeTarget } from "@bureau/control/rollouts/upgrade-target";
import { systemClock } from "@bureau/kit/clock";
import { parseDuration } from "@bureau/kit/duration";
import { BureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import {
  type FleetLocalpart,
  type MachineLocalpart,
  type PrincipalLocalpart,
  parseMachine,
  parseUserId,
  principalOfUser,
  RefError,
} from "@bureau/schema/refs";
import type { Rollout } from "@bureau/schema/rollout";
import { defineCommand, defineFlags, UsageError } from "../command/command.ts";
import { parseLabel } from "../command/key-value.ts";
import { defaultFleet, isHere, openSession, type SessionChoice } from "../command/operator.ts";
import { dryRunFlag, type FleetValue, fleetFlag, jsonFlag, sessionFlags } from "../command/shared-flags.ts";
import { controlRollout, lockRollout } from "./control-rollout.ts";
import { previewJson, previewLines } from "./preview-report.ts";
import { previewOne, requestedTarget, TIMEOUT_DEFAULT } from "./requested-build.ts";
import { buildFlags, machinesFlags, orderFlags, type RolloutValues, timeoutFlag } from "./rollout-flags.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...fleetFlag,
  ...machinesFlags,
  ...buildFlags,
  ...timeoutFlag,
  ...orderFlags,
  ...dryRunFlag,
});

export const command = defineCommand({
  summary: "Upgrade many machines, in order: first a few, then batches",
  details:
    "The state of a rollout is in Matrix. Ctrl-C ends only this command; the same command again, or bureau rollout\nresume, continues the rollout (docs/rollouts.md).",
  flags,
  examples: [
    "bureau rollout start --all --host-env /nix/store/…-bureau-host-env --canary 1 --batch 5",
    "bureau rollout start --label ring=stable --host-env PATH --rollback-on-error --dry-run",
  ],
  run: (invocation) => {
    const { all, label, "host-env": build } = invocation.flags;
    const help = "bureau rollout start --help";
    if (!all && label.length === 0) throw new UsageError("No machines given: use --all or --label K=V", help);
    if (build === undefined) throw new UsageError("No build given: use --host-env PATH", help);
    return startRollout(invocation);
  },
});

/** What a rollout is started with; `bureau machine upgrade` declares the same flags. */
type StartChoice = SessionChoice & {
  readonly flags: RolloutValues & FleetValue & { readonly json: boolean };
};

const CANARY_DEFAULT = 1;
const BATCH_DEFAULT = 5;

export async function startRollout(invocation: StartChoice): Promise<number> {
  const session = openSession(invocation);
  const fleet = defaultFleet(invocation);
  const { rollout: wanted, target, machines } = await requestedRollout(invocation, session, fleet);
  requireRolloutSize(wanted);
  if (invocation.flags["dry-run"])
    return showPlan(invocation, session, { rollout: wanted, target, machines });
  using opened = await beginRollout({ session, fleet, wanted, clock: systemClock, lock: lockRollout });
  const { place, rollout, continues } = opened;
  if (continues !== undefined)
    invocation.terminal.say(`Continuing rollout ${place.id}, which was ${continues}`);
  return await controlRollout(invocation, { session, fleet, place, rollout });
}

type NewRollout = {
  readonly rollout: Rollout;
  readonly target: UpgradeTarget;
  readonly machines: readonly ListedMachine[];
};

async function requestedRollout(
  invocation: StartChoice,
  session: MatrixSession,
  fleet: FleetLocalpart,
): Promise<NewRollout> {
  const { flags } = invocation;
  const selector = selectorOf(invocation);
  const machines = await selectMachines(session, fleet, selector);
  const elsewhere = machines
    .map(({ name }) => name)
    .filter((name) => !isHere(invocation, parseMachine(name)));
  const request: RolloutRequest = {
    target: requestedTarget(flags, elsewhere),
    selector,
    canary: countFlag(invocation, "canary", CANARY_DEFAULT),
    batch: countFlag(invocation, "batch", BATCH_DEFAULT),
    timeoutMs: parseDuration(flags.timeout ?? TIMEOUT_DEFAULT, "--timeout"),
    onFailure: flags["rollback-on-error"] ? "roll-back" : flags["keep-going"] ? "keep-going" : "halt",
    waitOffline: flags["wait-offline"],
  };
  const rollout = newRollout(session, machines, request, systemClock.now());
  return { rollout, target: request.target, machines };
}

function selectorOf(invocation: StartChoice): Rollout["selector"] {
  if (invocation.flags.all) return "all";
  const labels = invocation.flags.label.map((typed) => parseLabel(typed, "--label"));
  return Object.fromEntries(labels.sort(([a], [b]) => (a < b ? -1 : 1)));
}

function countFlag({ flags }: StartChoice, name: "canary" | "batch", usual: number): number {
  const typed = flags[name] ?? String(usual);
  if (!/^[1-9]\d{0,3}$/u.test(typed))
    throw new BureauError("invalid-input", `--${name} "${typed}" is not a number of machines: 1 to 9999`);
  return Number(typed);
}

async function showPlan(
  invocation: StartChoice,
  session: MatrixSession,
  { rollout, target, machines }: NewRollout,
): Promise<number> {
  const { terminal } = invocation;
  const known = new Map(machines.map((machine) => [machine.name, machine]));
  const now = systemClock.now();
  const previews = await Promise.all(
    rollout.machines.map(({ machine }) => previewListed(session, machine, known.get(machine), target, now)),
  );
  if (invocation.flags.json) {
    const { canary, batch, halt_on_error, rollback_on_error } = rollout;
    terminal.json({
      dry_run: true,
      canary,
      batch,
      halt_on_error,
      rollback_on_error,
      machines: previews.map(previewJson),
    });
    return 0;
  }
  terminal.print(`${inWords(rollout)}\n`);
  for (const preview of previews) for (const line of previewLines(preview)) terminal.print(line);
  return 0;
}

/** From the list of machines; a machine that does not report its agents is asked for. */
async function previewListed(
  session: MatrixSession,
  machine: MachineLocalpart,
  listed: ListedMachine | undefined,
  target: UpgradeTarget,
  now: number,
): Promise<UpgradePreview> {
  const principals = listed !== undefined && isOnline(listed, now) ? reportedBy(listed) : undefined;
  if (principals === undefined) {
    const place = await configPlace(session, machine);
    return previewOne({ session, machine, place, running: listed?.version, target });
  }
  return previewUpgrade(machine, target, listed?.version, principals);
}

/** Undefined when its heartbeat does not name all, or names what is no principal: it may be of another implementation. */
function reportedBy(listed: ListedMachine): readonly PrincipalLocalpart[] | undefined {
  if (listed.principals === undefined || listed.principals_omitted !== undefined) return undefined;
  try {
    return Object.keys(listed.principals).map((user) => principalOfUser(parseUserId(user)));
  } catch (error) {
    if (!(error instanceof RefError)) throw error;
    return undefined;
  }
}

/** The order, and what happens when a machine fails. */
function inWords({ machines, canary, batch, ...policy }: Rollout): string {
  const batches = Math.ceil((machines.length - canary) / batch);
  const then = batches === 0 ? "" : `, then ${counted(batches, "batch", "batches")} of at most ${batch}`;
  const onError = policy.rollback_on_error
    ? "all roll back when one fails"
    : policy.halt_on_error
      ? "stops when one fails"
      : "continues when one fails after the first";
  return `${counted(machines.length, "machine", "machines")}: ${canary} first${then}; ${onError}`;
}

const counted = (count: number, one: string, many: string): string => `${count} ${count === 1 ? one : many}`;
