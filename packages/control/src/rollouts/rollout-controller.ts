/**
 * The rollout controller: reads what the machines report, plans, writes the next state, then sends the requests that follow
 * from it. It keeps no state of its own: when it stops, another controller continues from Matrix.
 */
import type { Clock } from "@bureau/kit/clock";
import { isBureauError, messageOf } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import { type BureauVersion, BureauVersionSchema } from "@bureau/schema/events";
import { InputError, parse } from "@bureau/schema/parse";
import { type FleetLocalpart, type MachineLocalpart, parseMachine } from "@bureau/schema/refs";
import type { Rollout } from "@bureau/schema/rollout";
import type { Editor } from "../editor.ts";
import { isOnline } from "../machines/list-machines.ts";
import { configPlace, readDesiredVersion } from "../machines/machine-config.ts";
import { readMachineVersion } from "../machines/machine-version.ts";
import { isAway, unlessAborted, unlessAway } from "../unless-away.ts";
import { FleetWatch } from "./fleet-watch.ts";
import { readUnlessLater } from "./rollout-order.ts";
import {
  asMachinesSay,
  type FleetFacts,
  failUnasked,
  isOver,
  isUnderWay,
  type MachineFacts,
  type Publication,
  planRollout,
} from "./rollout-plan.ts";
import { type RolloutPlace, readRollout, writeRollout } from "./rollout-store.ts";
import { requestVersion } from "./upgrade-request.ts";
import { assumeTarget, type UpgradeTarget } from "./upgrade-target.ts";

/** The shortest time between two rounds that changed nothing. */
const ROUND_MS_MIN = 500;
/** The longest: machines may have come online. */
const ROUND_MS_MAX = 10_000;
/** Between two rounds while the homeserver is away. */
const AWAY_MS = 2_000;
/** Machines read beyond those that may begin: some of them may run the build already. */
const READ_AHEAD = 8;

export type RunRollout = Editor & {
  readonly fleet: FleetLocalpart;
  readonly place: RolloutPlace;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** As it is when the controller begins. */
  readonly rollout: Rollout;
  /** Called after every read, with the step of each machine under way. */
  readonly onProgress: (rollout: Rollout, steps: ReadonlyMap<string, string>) => void;
};

/**
 * Runs a rollout until it is over, and returns it. When `signal` aborts, returns at once what was last read: neither a
 * pending read nor a pending write is waited for.
 * @throws BureauError `conflict` when it halted because an earlier rollout runs in the fleet
 */
export async function runRollout(options: RunRollout): Promise<Rollout> {
  const { signal, clock } = options;
  let seen = options.rollout;
  const onProgress: RunRollout["onProgress"] = (rollout, steps) => {
    if (signal.aborted) return;
    seen = rollout;
    options.onProgress(rollout, steps);
  };
  const watch = new FleetWatch(options);
  while (!signal.aborted) {
    const next = async () => {
      await watch.begin(options.place.room);
      return await reconcile({ ...options, watch, onProgress });
    };
    const round = await unlessAborted(unlessAway(next()), signal);
    if (round !== undefined) seen = round.rollout;
    if (round !== undefined && isOver(round.rollout)) break;
    if (round === undefined) await clock.sleep(AWAY_MS, signal);
    // After a change the next machines may begin at once.
    else if (!round.changed) await untilChange(watch, round.rollout, options);
  }
  return seen;
}

/** Waits for a change in the fleet, or until a machine under way is late. */
async function untilChange(
  watch: FleetWatch,
  rollout: Rollout,
  { clock, signal }: RunRollout,
): Promise<void> {
  const began = clock.monotonic();
  const lateIn = rollout.machines
    .filter(isUnderWay)
    .map(({ asked_at }) => Date.parse(asked_at ?? "") + rollout.timeout_seconds * 1_000 - clock.now());
  const waitMs = Math.max(ROUND_MS_MIN, Math.min(ROUND_MS_MAX, ...lateIn.filter(Number.isFinite)));
  await unlessAborted(unlessRefused(watch.change(waitMs, signal)), signal);
  // A report changes in several steps, and a homeserver that cannot poll answers at once.
  await clock.sleep(ROUND_MS_MIN - (clock.monotonic() - began), signal);
}

/** The next round finds what a failed poll did not. */
async function unlessRefused(asked: Promise<void>): Promise<undefined> {
  await asked.catch((error: unknown) => {
    if (!isBureauError(error) || error.code === "unauthorized") throw error;
  });
}

/** A rollout with the outcome of machines that were upgrading when a controller last wrote it. */
export async function currentRollout(
  options: Pick<RunRollout, "session" | "fleet" | "clock">,
  rollout: Rollout,
): Promise<Rollout> {
  if (!rollout.machines.some(isUnderWay)) return rollout;
  const facts = await gatherFacts({ ...options, watch: new FleetWatch(options) }, rollout);
  return asMachinesSay(rollout, facts, options.clock.now());
}

/** One round: read, plan, write, send requests. */
async function reconcile(
  options: RunRollout & { readonly watch: FleetWatch },
): Promise<{ rollout: Rollout; changed: boolean }> {
  const { session, place, clock } = options;
  const base = await readUnlessLater(session, place, clock);
  const facts = await gatherFacts(options, base.rollout);
  options.onProgress(base.rollout, stepsOf(base.rollout, facts));
  if (options.signal.aborted) return { rollout: base.rollout, changed: false };
  const plan = planRollout(place.id, base.rollout, facts, clock.now());
  const wanted = JSON.stringify(plan.rollout);
  const changed = wanted !== JSON.stringify(base.rollout);
  const written = changed ? await writeRollout(session, place, base, plan.rollout) : base.rollout;
  // Another controller runs it too: the next round plans from what both wrote.
  if (changed && JSON.stringify(written) !== wanted) return { rollout: written, changed: true };
  const faults = new Map<MachineLocalpart, string>();
  for (const publication of plan.publish) {
    const fault = await send(options, plan.rollout, publication);
    if (fault !== undefined) faults.set(publication.machine, fault);
  }
  options.onProgress(written, stepsOf(written, facts));
  if (faults.size === 0) return { rollout: written, changed };
  const asked = await readRollout(session, place);
  const failed = failUnasked(asked.rollout, faults, clock.now());
  return { rollout: await writeRollout(session, place, asked, failed), changed: true };
}

/** Sends one request. Returns why it cannot be sent; undefined when it was sent. */
async function send(
  options: RunRollout,
  rollout: Rollout,
  publication: Publication,
): Promise<string | undefined> {
  const { session, clock } = options;
  const { machine, requestId, backTo } = publication;
  const target = backTo === undefined ? targetOf(rollout) : assumeTarget(backTo);
  try {
    await requestVersion(options, await configPlace(session, machine), target, { requestId, clock });
    return undefined;
  } catch (error) {
    // The next round reads whose request is there.
    if (isBureauError(error) && error.code === "conflict") return undefined;
    return faultOf(error);
  }
}

/**
 * A fault of one machine, which does not stop the others. Rethrows every other error: a homeserver that is away, a session
 * that is not accepted any more, a bug.
 */
function faultOf(error: unknown): string {
  if (error instanceof InputError) return error.message;
  if (!isBureauError(error) || isAway(error) || error.code === "unauthorized") throw error;
  return messageOf(error);
}

/** The build of a rollout. */
function targetOf(rollout: Rollout): UpgradeTarget {
  const files: BureauVersion = parse(
    BureauVersionSchema,
    rollout.bureau_version,
    "bureau_version of a rollout",
  );
  const { daemon_store_path, launcher_store_path, proxy_store_path, log_relay_store_path } = files;
  return {
    path: rollout.host_environment_path,
    ...(rollout.version === undefined ? {} : { version: rollout.version }),
    ...(rollout.programs === undefined ? {} : { programs: rollout.programs }),
    files: {
      daemon_store_path,
      launcher_store_path,
      proxy_store_path,
      ...(log_relay_store_path === undefined ? {} : { log_relay_store_path }),
    },
  };
}

/** The heartbeat of every machine; version and desired state of those that the plan may decide about. */
async function gatherFacts(
  { session, clock, watch }: Pick<RunRollout, "session" | "clock"> & { readonly watch: FleetWatch },
  rollout: Rollout,
): Promise<FleetFacts> {
  const now = clock.now();
  const listed = await watch.machines();
  const online = new Set(listed.filter((machine) => isOnline(machine, now)).map(({ name }) => name));
  const wanted = toRead(rollout, online);
  const facts = await Promise.all(
    listed.map(async (machine): Promise<[MachineLocalpart, MachineFacts]> => {
      const name = parseMachine(machine.name);
      const heartbeat = {
        online: online.has(name),
        ...(machine.last_seen === undefined ? {} : { lastSeen: machine.last_seen }),
      };
      if (!wanted.has(name)) return [name, heartbeat];
      return [name, { ...heartbeat, ...(await readMachine(session, name)) }];
    }),
  );
  return new Map(facts);
}

async function readMachine(
  session: MatrixSession,
  machine: MachineLocalpart,
): Promise<Pick<MachineFacts, "seen" | "fault">> {
  try {
    const place = await configPlace(session, machine);
    const [version, desired] = await Promise.all([
      readMachineVersion(session, place),
      readDesiredVersion(session, place),
    ]);
    return { seen: { version, desired } };
  } catch (error) {
    return { fault: faultOf(error) };
  }
}

/** A rollback concerns the machines that the rollout changed; else those under way, and the next ones. */
function toRead(rollout: Rollout, online: ReadonlySet<string>): Set<string> {
  const isConcerned = (one: Rollout["machines"][number]): boolean =>
    isUnderWay(one) || (rollout.state === "rolling-back" && one.previous_host_environment_path !== undefined);
  const most = rollout.state === "rolling-back" ? 0 : Math.max(rollout.canary, rollout.batch) + READ_AHEAD;
  const next = rollout.machines.filter(({ state, machine }) => state === "pending" && online.has(machine));
  return new Set(
    [...rollout.machines.filter(isConcerned), ...next.slice(0, most)].map(({ machine }) => machine),
  );
}

function stepsOf(rollout: Rollout, facts: FleetFacts): Map<string, string> {
  return new Map(
    rollout.machines.filter(isUnderWay).map((one) => {
      const version = facts.get(one.machine)?.seen?.version;
      return [one.machine, version?.request_id === one.request_id ? (version?.step ?? "asked") : "asked"];
    }),
  );
}
