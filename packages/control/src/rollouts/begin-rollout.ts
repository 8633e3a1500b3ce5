/**
 * Begins a rollout, or continues one that stopped. One rollout runs in a fleet at a time; the same request made again
 * continues the rollout that it began.
 */
import { canonicalJson } from "@bureau/kit/canonical-json";
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import { type FleetLocalpart, parseMachine } from "@bureau/schema/refs";
import type { Rollout, RolloutState } from "@bureau/schema/rollout";
import { isOnline, type ListedMachine, listMachinesNow } from "../machines/list-machines.ts";
import { roomOfFleet } from "../rooms/places.ts";
import { isOpen, notOver, readUnlessLater } from "./rollout-order.ts";
import { isRollingBack, isUnderWay, resumeRollout } from "./rollout-plan.ts";
import {
  createRollout,
  listRollouts,
  newRolloutId,
  type RolloutPlace,
  readRollout,
  type StoredRollout,
  writeRollout,
} from "./rollout-store.ts";
import type { UpgradeTarget } from "./upgrade-target.ts";

/** Labels that a machine must all have, or every machine. */
export type Selector = Rollout["selector"];

export type RolloutRequest = {
  readonly target: UpgradeTarget;
  readonly selector: Selector;
  /** Machines to upgrade first; the rest wait for them. */
  readonly canary: number;
  /** Machines to upgrade at a time afterwards. */
  readonly batch: number;
  readonly timeoutMs: number;
  /** What happens when a machine fails. A failed canary stops every rollout. */
  readonly onFailure: "halt" | "keep-going" | "roll-back";
  /** Wait for machines without a heartbeat, instead of skipping them. */
  readonly waitOffline: boolean;
};

/** The machines that a selector means, by name. @throws BureauError `not-found` when there is none */
export async function selectMachines(
  session: MatrixSession,
  fleet: FleetLocalpart,
  selector: Selector,
): Promise<ListedMachine[]> {
  const selected = (await listMachinesNow(session, fleet)).filter(({ labels }) => matches(labels, selector));
  if (selected.length > 0) return selected;
  throw new BureauError("not-found", `No machine of ${fleet} matches`, { hint: "bureau machine list" });
}

const matches = (labels: ListedMachine["labels"], selector: Selector): boolean =>
  selector === "all" || Object.entries(selector).every(([key, value]) => labels?.[key] === value);

/** A rollout of `machines` that is not written yet. Machines that are online come first: the canaries are among them. */
export function newRollout(
  session: Pick<MatrixSession, "userId">,
  machines: readonly ListedMachine[],
  request: RolloutRequest,
  now: number,
): Rollout {
  const { target, onFailure } = request;
  const ordered = [
    ...machines.filter((one) => isOnline(one, now)),
    ...machines.filter((one) => !isOnline(one, now)),
  ];
  return {
    host_environment_path: target.path,
    ...(target.version === undefined ? {} : { version: target.version }),
    ...(target.programs === undefined ? {} : { programs: comparedOf(target.programs) }),
    bureau_version: { ...target.files },
    selector: request.selector,
    canary: Math.min(request.canary, ordered.length),
    batch: request.batch,
    halt_on_error: onFailure !== "keep-going",
    rollback_on_error: onFailure === "roll-back",
    wait_offline: request.waitOffline,
    timeout_seconds: Math.max(1, Math.ceil(request.timeoutMs / 1_000)),
    requested_by: session.userId,
    // With milliseconds: of rollouts of one second the newest is the one to continue.
    started_at: new Date(now).toISOString(),
    state: "running",
    generation: 1,
    machines: ordered.map(({ name }) => ({ machine: parseMachine(name), state: "pending", attempt: 1 })),
  };
}

/** The programs that machines compare; an event has no room for all of a build. */
const comparedOf = (programs: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(programs).filter(([name]) => /^bureau-(?:daemon|launcher|proxy|log-relay)$/u.test(name)),
  );

/** A rollout that runs, with the lock that keeps other controllers of this host away until it is disposed of. */
export type OpenRollout = Disposable & {
  readonly place: RolloutPlace;
  readonly rollout: Rollout;
  /** The state in which an existing rollout was found; undefined for a new one. */
  readonly continues: RolloutState | undefined;
};

type OpenOptions = {
  readonly session: MatrixSession;
  readonly fleet: FleetLocalpart;
  readonly clock: Clock;
  /** Two controllers do no harm, but on one host one is enough. Throws `conflict` when the lock of that rollout is held. */
  readonly lock: (id: string) => Disposable;
};

/**
 * Writes `wanted`, or reopens the rollout that was begun with the same request and did not end.
 * @throws BureauError `conflict` while another rollout runs in the fleet
 */
export async function beginRollout(
  options: OpenOptions & { readonly wanted: Rollout },
): Promise<OpenRollout> {
  const { session, fleet, clock, wanted } = options;
  const room = await roomOfFleet(session, fleet);
  const existing = existingRollout(await listRollouts(session, room), wanted);
  const place = { room, id: existing?.id ?? newRolloutId(clock) };
  return holding(options.lock(place.id), async () => {
    if (existing !== undefined) return reopen(session, place, existing);
    await createRollout(session, place, wanted);
    const { rollout } = await readUnlessLater(session, place, clock);
    return { place, rollout, continues: undefined };
  });
}

/** @throws BureauError `not-found`, or `conflict` when it is over or while another rollout runs in the fleet */
export async function continueRollout(options: OpenOptions & { readonly id: string }): Promise<OpenRollout> {
  const { session, fleet, id } = options;
  const place = { room: await roomOfFleet(session, fleet), id };
  // Locked before it is read: a second command hears of the first, or finds what the first has done.
  return holding(options.lock(id), async () => {
    const stored = await readRollout(session, place);
    requireNoOther(await listRollouts(session, place.room), (other) => other.id === id);
    return reopen(session, place, stored);
  });
}

async function holding(
  lock: Disposable,
  open: () => Promise<Omit<OpenRollout, keyof Disposable>>,
): Promise<OpenRollout> {
  using held = new DisposableStack();
  held.use(lock);
  const opened = await open();
  const kept = held.move();
  return { ...opened, [Symbol.dispose]: () => kept.dispose() };
}

/** Sets a rollout that stopped to running again. @throws BureauError `conflict` when there is nothing left to do */
async function reopen(
  session: MatrixSession,
  place: RolloutPlace,
  stored: StoredRollout,
): Promise<Omit<OpenRollout, keyof Disposable>> {
  const { state, machines } = stored.rollout;
  if (state === "running" || state === "rolling-back")
    return { place, rollout: stored.rollout, continues: state };
  const isLeft = machines.some(
    (one) => isUnderWay(one) || ["failed", "skipped", "pending"].includes(one.state),
  );
  if (state === "rolled-back" || !(isLeft || isRollingBack(stored.rollout)))
    throw new BureauError("conflict", `The rollout "${place.id}" is over: ${state}`, {
      hint: "start another with bureau machine upgrade --all --host-env PATH",
    });
  const rollout = await writeRollout(session, place, stored, resumeRollout(stored.rollout));
  return { place, rollout, continues: state };
}

/**
 * The rollout of the same machines, programs and flags that runs or was halted. A halted one counts only while it is the
 * newest: after another rollout its machines may run something else.
 * @throws BureauError `conflict` while another one runs in the fleet
 */
function existingRollout(stored: readonly StoredRollout[], wanted: Rollout): StoredRollout | undefined {
  const isSame = ({ rollout }: StoredRollout): boolean => purposeOf(rollout) === purposeOf(wanted);
  requireNoOther(stored, isSame);
  const running = stored.find(isOpen);
  if (running !== undefined) return running;
  const [last] = stored;
  return last !== undefined && last.rollout.state === "halted" && isSame(last) ? last : undefined;
}

/** @throws BureauError `conflict` while a rollout runs in the fleet that is not the one meant */
function requireNoOther(
  stored: readonly StoredRollout[],
  isMeant: (rollout: StoredRollout) => boolean,
): void {
  const other = stored.find((one) => isOpen(one) && !isMeant(one));
  if (other !== undefined) throw notOver(other.id);
}

/** Everything that was requested, without the progress. */
function purposeOf(rollout: Rollout): string {
  const { host_environment_path: path, programs, selector, canary, batch, timeout_seconds: time } = rollout;
  const { halt_on_error: halt, rollback_on_error: back, wait_offline: wait } = rollout;
  return canonicalJson({ path, programs, selector, canary, batch, time, halt, back, wait });
}
