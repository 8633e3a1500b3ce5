/** `bureau machine upgrade --all`, `--label`, `--resume`: a rollout is begun, or gone on with, and driven. */

import { isOnline, type ListedMachine, listMachines } from "@bureau/control/machines/list-machines";
import { configPlace } from "@bureau/control/machines/machine-config";
import { type DriveOptions, driveRollout } from "@bureau/control/rollouts/rollout-controller";
import { isOpen, notOver, readUnlessLater } from "@bureau/control/rollouts/rollout-order";
import { isTurningBack, isUnderWay, resumeRollout } from "@bureau/control/rollouts/rollout-plan";
import {
  createRollout,
  listRollouts,
  newRolloutId,
  type RolloutPlace,
  readRollout,
  type StoredRollout,
  writeRollout,
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
import { tryFileLock } from "@bureau/os/file-lock";
import { userLockFile } from "@bureau/os/layout";
import { takeTurn } from "@bureau/os/turn";
import { type FleetLocalpart, parseMachine } from "@bureau/schema/refs";
import type { Rollout, RolloutMachine } from "@bureau/schema/rollout";
import { booleanFlag, type Invocation, listFlag, stringFlag } from "../command/command.ts";
import { parseLabel } from "../command/key-value.ts";
import { defaultFleet, isHere, openSession } from "../command/operator.ts";
import { sayNext } from "../command/say-next.ts";
import { untilSignal } from "../command/until-signal.ts";
import { previewOne, requestedTarget, TIMEOUT_DEFAULT } from "../machine/upgrade.ts";
import { countsOf, outcomeOf, printRollout, rolloutJson, shortName } from "./rollout-report.ts";

const CANARY_DEFAULT = 1;
const BATCH_DEFAULT = 5;

export async function upgradeMany(invocation: Invocation): Promise<number> {
  const session = openSession(invocation);
  const fleet = defaultFleet(invocation);
  const wanted = await newRollout(invocation, session, fleet);
  if (booleanFlag(invocation, "dry-run")) return showPlan(invocation, session, wanted);
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
  invocation.terminal.say(`Going on with rollout ${place.id}, which is ${standing.rollout.state}`);
  const rollout = await reopen(session, place, standing);
  return await drive(invocation, { session, fleet, place, rollout });
}

export async function resumeRollouts(invocation: Invocation): Promise<number> {
  const session = openSession(invocation);
  const fleet = defaultFleet(invocation);
  const place = {
    room: await roomOfFleet(session, fleet),
    id: stringFlag(invocation, "resume") ?? "",
  };
  // Before it is read: whoever comes second is told of the first, or finds what that one has done.
  using _lock = lockRollout(place.id);
  const stored = await readRollout(session, place);
  requireNoOther(await listRollouts(session, place.room), (other) => other.id === place.id);
  const rollout = await reopen(session, place, stored);
  return await drive(invocation, { session, fleet, place, rollout });
}

/** One that has stopped is set going again. @throws BureauError `conflict` when there is nothing left to do */
async function reopen(session: MatrixSession, place: RolloutPlace, stored: StoredRollout): Promise<Rollout> {
  const { state, machines } = stored.rollout;
  if (state === "running" || state === "rolling-back") return stored.rollout;
  const isLeft = machines.some(
    (one) => isUnderWay(one) || ["failed", "skipped", "pending"].includes(one.state),
  );
  if (state === "rolled-back" || !(isLeft || isTurningBack(stored.rollout)))
    throw new BureauError("conflict", `The rollout "${place.id}" is over: ${state}`, {
      hint: "start another with bureau machine upgrade --all --host-env PATH",
    });
  return await writeRollout(session, place, stored, resumeRollout(stored.rollout));
}

/**
 * The same one, cut off or halted: the same machines, programs and flags. One that halted counts only until another
 * rollout is begun, after which what it says of its machines may not be so any more.
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

/** @throws BureauError `conflict` while one runs in the fleet that is not the one meant */
function requireNoOther(
  stored: readonly StoredRollout[],
  isMeant: (rollout: StoredRollout) => boolean,
): void {
  const other = stored.find((one) => isOpen(one) && !isMeant(one));
  if (other !== undefined) throw notOver(other.id);
}

/** Everything that was asked for, and nothing of how far it is. */
function purposeOf(rollout: Rollout): string {
  const { host_environment_path: path, programs, selector, canary, batch, timeout_seconds: time } = rollout;
  const { halt_on_error: halt, rollback_on_error: back, wait_offline: wait } = rollout;
  return canonicalJson({ path, programs, selector, canary, batch, time, halt, back, wait });
}

type NewRollout = { readonly rollout: Rollout; readonly target: UpgradeTarget };

async function newRollout(
  invocation: Invocation,
  session: MatrixSession,
  fleet: FleetLocalpart,
): Promise<NewRollout> {
  const selector = selectorOf(invocation);
  const selected = (await listMachines(session, fleet)).filter((one) => matches(one, selector));
  if (selected.length === 0)
    throw new BureauError("not-found", `No machine of ${fleet} is meant`, { hint: "bureau machine list" });
  const elsewhere = selected
    .map(({ name }) => name)
    .filter((name) => !isHere(invocation, parseMachine(name)));
  const target = requestedTarget(invocation, elsewhere);
  const now = systemClock.now();
  // Those that can answer go first: the canaries are among them.
  const ordered = [
    ...selected.filter((one) => isOnline(one, now)),
    ...selected.filter((one) => !isOnline(one, now)),
  ];
  const timeoutMs = parseDuration(stringFlag(invocation, "timeout") ?? TIMEOUT_DEFAULT, "--timeout");
  const rollback = booleanFlag(invocation, "rollback-on-error");
  const rollout: Rollout = {
    host_environment_path: target.path,
    ...(target.version === undefined ? {} : { version: target.version }),
    ...(target.programs === undefined ? {} : { programs: coreOf(target.programs) }),
    bureau_version: { ...target.files },
    selector,
    canary: Math.min(countFlag(invocation, "canary", CANARY_DEFAULT), ordered.length),
    batch: countFlag(invocation, "batch", BATCH_DEFAULT),
    halt_on_error: rollback || !booleanFlag(invocation, "keep-going"),
    rollback_on_error: rollback,
    wait_offline: booleanFlag(invocation, "wait-offline"),
    timeout_seconds: Math.max(1, Math.ceil(timeoutMs / 1_000)),
    requested_by: session.userId,
    // With milliseconds: the newest of those of one second is the one that is gone on with.
    started_at: new Date(now).toISOString(),
    ...{ state: "running", generation: 1 },
    machines: ordered.map(({ name }) => ({ machine: parseMachine(name), state: "pending", attempt: 1 })),
  };
  return { rollout, target };
}

/** What machines compare; the rest of a manifest is of no use in Matrix. */
const coreOf = (programs: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(programs).filter(([name]) => /^bureau-(?:daemon|launcher|proxy|log-relay)$/u.test(name)),
  );

function selectorOf(invocation: Invocation): Rollout["selector"] {
  if (booleanFlag(invocation, "all")) return "all";
  const labels = listFlag(invocation, "label").map((typed) => parseLabel(typed, "--label"));
  return Object.fromEntries(labels.sort(([a], [b]) => (a < b ? -1 : 1)));
}

const matches = ({ labels }: ListedMachine, selector: Rollout["selector"]): boolean =>
  selector === "all" || Object.entries(selector).every(([key, value]) => labels?.[key] === value);

function countFlag(invocation: Invocation, name: string, usual: number): number {
  const typed = stringFlag(invocation, name) ?? String(usual);
  if (!/^[1-9]\d{0,3}$/u.test(typed))
    throw new BureauError("invalid-input", `--${name} "${typed}" is not a number of machines from 1 on`);
  return Number(typed);
}

async function showPlan(
  invocation: Invocation,
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
  if (booleanFlag(invocation, "json")) {
    const { canary, batch, halt_on_error, rollback_on_error } = rollout;
    terminal.json({ dry_run: true, canary, batch, halt_on_error, rollback_on_error, machines: previews });
    return 0;
  }
  terminal.print(`${inWords(rollout)}\n`);
  for (const preview of previews) for (const line of previewLines(preview)) terminal.print(line);
  return 0;
}

/** In which order, and what becomes of it when one fails. */
function inWords({ machines, canary, batch, ...policy }: Rollout): string {
  const batches = Math.ceil((machines.length - canary) / batch);
  const then = batches === 0 ? "" : `, then ${counted(batches, "batch", "batches")} of at most ${batch}`;
  const onError = policy.rollback_on_error
    ? "all go back when one fails"
    : policy.halt_on_error
      ? "stops when one fails"
      : "goes on when one fails after the first";
  return `${counted(machines.length, "machine", "machines")}: ${canary} first${then}; ${onError}`;
}

const counted = (count: number, one: string, many: string): string => `${count} ${count === 1 ? one : many}`;

type Driven = Pick<DriveOptions, "session" | "fleet" | "place" | "rollout">;

async function drive(invocation: Invocation, driven: Driven): Promise<number> {
  const { terminal } = invocation;
  const { place } = driven;
  const shown = terminal.step(`Rollout ${place.id}`);
  const noteEnds = endsNoted((line) => shown.note(line));
  const rollout = await untilSignal((signal) =>
    driveRollout({
      ...driven,
      takeTurn,
      clock: systemClock,
      signal,
      onProgress: (now, steps) => {
        noteEnds(now);
        const doing = [...steps].map(([machine, step]) => `${shortName(machine)} ${step}`).join(", ");
        shown.update(`Rollout ${place.id}: ${countsOf(now)}${doing === "" ? "" : ` (${doing})`}`);
      },
    }),
  ).catch((error: unknown) => {
    shown.fail(`Rollout ${place.id}: stays in Matrix; bureau machine upgrade --resume ${place.id} goes on`);
    throw error;
  });
  const isAny = (state: Rollout["machines"][number]["state"]): boolean =>
    rollout.machines.some((one) => one.state === state);
  const ok = rollout.state === "done" && !isAny("failed") && isAny("succeeded");
  if (ok) shown.done(`Rollout ${place.id}: ${countsOf(rollout)}`);
  else shown.fail(`Rollout ${place.id} is ${rollout.state}: ${countsOf(rollout)}`);
  if (booleanFlag(invocation, "json")) terminal.json({ ok, ...rolloutJson(place.id, rollout) });
  else printRollout(terminal, rollout);
  if (isAny("skipped")) terminal.say("\nnote: machines that were skipped run what they ran before");
  if (rollout.state !== "rolled-back" && (!ok || isAny("skipped")))
    sayNext(
      terminal,
      `bureau machine upgrade --resume ${place.id} continues it; bureau machine show MACHINE has its history`,
    );
  return ok ? 0 : 1;
}

/** Two drivers do no harm; on one host one is enough. */
function lockRollout(id: string): Disposable {
  const lock = tryFileLock(userLockFile(`rollout-${id}`, process.env));
  if (lock !== undefined) return lock;
  throw new BureauError("conflict", `Another command here drives the rollout "${id}"`, {
    hint: `bureau rollout show ${id}`,
  });
}

/** Tells of each machine once it has ended; not of those that had before. */
function endsNoted(note: (line: string) => void): (rollout: Rollout) => void {
  const ended = ({ state }: RolloutMachine): boolean =>
    state !== "pending" && state !== "upgrading" && state !== "rolling-back";
  let before: ReadonlyMap<string, RolloutMachine["state"]> | undefined;
  return ({ machines }) => {
    for (const one of machines)
      if (before !== undefined && ended(one) && before.get(one.machine) !== one.state) note(outcomeOf(one));
    before = new Map(machines.map(({ machine, state }) => [machine, state]));
  };
}
