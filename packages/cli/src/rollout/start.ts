/** `bureau rollout start`, also `bureau machine upgrade --all` or `--label`: upgrades many machines in order. */

import { isOnline, type ListedMachine, listMachines } from "@bureau/control/machines/list-machines";
import { configPlace } from "@bureau/control/machines/machine-config";
import { isOpen, readUnlessLater } from "@bureau/control/rollouts/rollout-order";
import {
  createRollout,
  listRollouts,
  newRolloutId,
  type StoredRollout,
} from "@bureau/control/rollouts/rollout-store";
import { previewLines } from "@bureau/control/rollouts/upgrade-preview";
import { readMachineVersion } from "@bureau/control/rollouts/upgrade-request";
import type { UpgradeTarget } from "@bureau/control/rollouts/upgrade-target";
import { roomOfFleet } from "@bureau/control/rooms/places";
import { canonicalJson } from "@bureau/kit/canonical-json";
import { systemClock } from "@bureau/kit/clock";
import { parseDuration } from "@bureau/kit/duration";
import { BureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import { type FleetLocalpart, parseMachine } from "@bureau/schema/refs";
import type { Rollout } from "@bureau/schema/rollout";
import { defineCommand, defineFlags, UsageError } from "../command/command.ts";
import { parseLabel } from "../command/key-value.ts";
import { defaultFleet, isHere, openSession, type SessionChoice } from "../command/operator.ts";
import { dryRunFlag, type FleetValue, fleetFlag, jsonFlag, sessionFlags } from "../command/shared-flags.ts";
import { drive, lockRollout, reopen, requireNoOther } from "./drive-rollout.ts";
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
  const wanted = await newRollout(invocation, session, fleet);
  if (invocation.flags["dry-run"]) return showPlan(invocation, session, wanted);
  const room = await roomOfFleet(session, fleet);
  const stored = await listRollouts(session, room);
  const standing = standingRollout(stored, wanted.rollout);
  const place = { room, id: standing?.id ?? newRolloutId(systemClock) };
  using _lock = lockRollout(place.id);
  if (standing === undefined) {
    await createRollout(session, place, wanted.rollout);
    const { rollout } = await readUnlessLater(session, place, systemClock);
    return await drive(invocation, { session, fleet, place, rollout });
  }
  invocation.terminal.say(`Continuing rollout ${place.id}, which is ${standing.rollout.state}`);
  const rollout = await reopen(session, place, standing);
  return await drive(invocation, { session, fleet, place, rollout });
}

/**
 * An interrupted or halted rollout with the same machines, programs and flags, to continue instead of a new one. A halted
 * one counts only while it is the latest, because a later rollout may have changed its machines.
 * @throws BureauError `conflict` while another one runs in the fleet
 */
function standingRollout(stored: readonly StoredRollout[], wanted: Rollout): StoredRollout | undefined {
  const isSame = ({ rollout }: StoredRollout): boolean => purposeOf(rollout) === purposeOf(wanted);
  requireNoOther(stored, isSame);
  const running = stored.find(isOpen);
  if (running !== undefined) return running;
  const [last] = stored;
  return last !== undefined && last.rollout.state === "halted" && isSame(last) ? last : undefined;
}

/** The request of a rollout, without its progress. */
function purposeOf(rollout: Rollout): string {
  const { host_environment_path: path, programs, selector, canary, batch, timeout_seconds: time } = rollout;
  const { halt_on_error: halt, rollback_on_error: back, wait_offline: wait } = rollout;
  return canonicalJson({ path, programs, selector, canary, batch, time, halt, back, wait });
}

type NewRollout = { readonly rollout: Rollout; readonly target: UpgradeTarget };

async function newRollout(
  invocation: StartChoice,
  session: MatrixSession,
  fleet: FleetLocalpart,
): Promise<NewRollout> {
  const selector = selectorOf(invocation);
  const selected = (await listMachines(session, fleet)).filter((one) => matches(one, selector));
  if (selected.length === 0)
    throw new BureauError("not-found", `No machine of ${fleet} matches`, { hint: "bureau machine list" });
  const elsewhere = selected
    .map(({ name }) => name)
    .filter((name) => !isHere(invocation, parseMachine(name)));
  const target = requestedTarget(invocation.flags, elsewhere);
  const now = systemClock.now();
  // Online machines go first, so that the canaries are among them.
  const ordered = [
    ...selected.filter((one) => isOnline(one, now)),
    ...selected.filter((one) => !isOnline(one, now)),
  ];
  const timeoutMs = parseDuration(invocation.flags.timeout ?? TIMEOUT_DEFAULT, "--timeout");
  const rollback = invocation.flags["rollback-on-error"];
  const rollout: Rollout = {
    host_environment_path: target.path,
    ...(target.version === undefined ? {} : { version: target.version }),
    ...(target.programs === undefined ? {} : { programs: coreOf(target.programs) }),
    bureau_version: { ...target.files },
    selector,
    canary: Math.min(countFlag(invocation, "canary", CANARY_DEFAULT), ordered.length),
    batch: countFlag(invocation, "batch", BATCH_DEFAULT),
    halt_on_error: rollback || !invocation.flags["keep-going"],
    rollback_on_error: rollback,
    wait_offline: invocation.flags["wait-offline"],
    timeout_seconds: Math.max(1, Math.ceil(timeoutMs / 1_000)),
    requested_by: session.userId,
    // With milliseconds, to order rollouts of one second: the newest is continued.
    started_at: new Date(now).toISOString(),
    state: "running",
    generation: 1,
    machines: ordered.map(({ name }) => ({ machine: parseMachine(name), state: "pending", attempt: 1 })),
  };
  return { rollout, target };
}

/** The programs that machines compare; Matrix needs no others. */
const coreOf = (programs: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(programs).filter(([name]) => /^bureau-(?:daemon|launcher|proxy|log-relay)$/u.test(name)),
  );

function selectorOf(invocation: StartChoice): Rollout["selector"] {
  if (invocation.flags.all) return "all";
  const labels = invocation.flags.label.map((typed) => parseLabel(typed, "--label"));
  return Object.fromEntries(labels.sort(([a], [b]) => (a < b ? -1 : 1)));
}

const matches = ({ labels }: ListedMachine, selector: Rollout["selector"]): boolean =>
  selector === "all" || Object.entries(selector).every(([key, value]) => labels?.[key] === value);

function countFlag({ flags }: StartChoice, name: "canary" | "batch", usual: number): number {
  const typed = flags[name] ?? String(usual);
  if (!/^[1-9]\d{0,3}$/u.test(typed))
    throw new BureauError("invalid-input", `--${name} "${typed}" is not a number of machines: 1 to 9999`);
  return Number(typed);
}

async function showPlan(
  invocation: StartChoice,
  session: MatrixSession,
  { rollout, target }: NewRollout,
): Promise<number> {
  const { terminal } = invocation;
  const previews = await Promise.all(
    rollout.machines.map(async ({ machine }) => {
      const place = await configPlace(session, machine);
      const running = await readMachineVersion(session, place);
      return previewOne({ session, machine, place, running, target });
    }),
  );
  if (invocation.flags.json) {
    const { canary, batch, halt_on_error, rollback_on_error } = rollout;
    terminal.json({ dry_run: true, canary, batch, halt_on_error, rollback_on_error, machines: previews });
    return 0;
  }
  terminal.print(`${inWords(rollout)}\n`);
  for (const preview of previews) for (const line of previewLines(preview)) terminal.print(line);
  return 0;
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
