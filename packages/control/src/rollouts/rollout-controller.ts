/**
 * Carries a rollout on: reads what the machines say, plans, writes the new state, asks the machines that follow from
 * it. It keeps nothing of its own: stopped anywhere, the next one goes on from Matrix.
 */
import type { Clock } from "@bureau/kit/clock";
import { isBureauError, messageOf } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import { type BureauVersion, BureauVersionSchema } from "@bureau/schema/events";
import { InputError, parse } from "@bureau/schema/parse";
import { type FleetLocalpart, type MachineLocalpart, parseMachine } from "@bureau/schema/refs";
import type { Rollout } from "@bureau/schema/rollout";
import type { Editor } from "../editor.ts";
import { isOnline, listMachines } from "../machines/list-machines.ts";
import { configPlace, readDesiredVersion } from "../machines/machine-config.ts";
import { isAway, unlessAborted, unlessAway } from "../unless-away.ts";
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
import { readMachineVersion, requestVersion } from "./upgrade-request.ts";
import { assumeTarget, type UpgradeTarget } from "./upgrade-target.ts";

/** Between two looks at the machines under way. */
const POLL_MS = 500;
/** While the homeserver is away, as often as that. */
const AWAY_MS = 2_000;
/** Machines looked at beyond those that may begin, for some of them turn out to run it already. */
const LOOK_AHEAD = 8;

export type DriveOptions = Editor & {
  readonly fleet: FleetLocalpart;
  readonly place: RolloutPlace;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** As it stands when this begins. */
  readonly rollout: Rollout;
  /** Told after every look, with the step each machine under way is at. */
  readonly onProgress: (rollout: Rollout, steps: ReadonlyMap<string, string>) => void;
};

/**
 * Returns the rollout as it stands when it is over, or as it was last seen when `signal` aborts: nothing is waited for
 * then, neither a homeserver that hangs nor what it is being told.
 * @throws BureauError `conflict` when it halted because an earlier one runs in the fleet
 */
export async function driveRollout(options: DriveOptions): Promise<Rollout> {
  const { signal, clock } = options;
  let seen = options.rollout;
  const onProgress: DriveOptions["onProgress"] = (rollout, steps) => {
    if (signal.aborted) return;
    seen = rollout;
    options.onProgress(rollout, steps);
  };
  while (!signal.aborted) {
    const look = await unlessAborted(unlessAway(lookAndAct({ ...options, onProgress })), signal);
    if (look !== undefined) seen = look.rollout;
    if (look !== undefined && isOver(look.rollout)) break;
    // What has changed is looked at again at once: the next machines may begin.
    if (look?.changed !== true) await clock.sleep(look === undefined ? AWAY_MS : POLL_MS, signal);
  }
  return seen;
}

/** A rollout with the outcome of machines that were in progress when a driver last wrote it. */
export async function currentRollout(
  options: Pick<DriveOptions, "session" | "fleet" | "clock">,
  rollout: Rollout,
): Promise<Rollout> {
  if (!rollout.machines.some(isUnderWay)) return rollout;
  return asMachinesSay(rollout, await gatherFacts(options, rollout), options.clock.now());
}

/** One look at what the machines say, and what follows from it. */
async function lookAndAct(options: DriveOptions): Promise<{ rollout: Rollout; changed: boolean }> {
  const { session, place, clock } = options;
  const base = await readUnlessLater(session, place, clock);
  const facts = await gatherFacts(options, base.rollout);
  options.onProgress(base.rollout, stepsOf(base.rollout, facts));
  if (options.signal.aborted) return { rollout: base.rollout, changed: false };
  const plan = planRollout(place.id, base.rollout, facts, clock.now());
  const wanted = JSON.stringify(plan.rollout);
  const changed = wanted !== JSON.stringify(base.rollout);
  const stands = changed ? await writeRollout(session, place, base, plan.rollout) : base.rollout;
  // Somebody else drives it as well: what to do is planned from what both wrote.
  if (changed && JSON.stringify(stands) !== wanted) return { rollout: stands, changed: true };
  const faults = new Map<MachineLocalpart, string>();
  for (const publication of plan.publish) {
    const fault = await publish(options, plan.rollout, publication);
    if (fault !== undefined) faults.set(publication.machine, fault);
  }
  options.onProgress(stands, stepsOf(stands, facts));
  if (faults.size === 0) return { rollout: stands, changed };
  const asked = await readRollout(session, place);
  const failed = failUnasked(asked.rollout, faults, clock.now());
  return { rollout: await writeRollout(session, place, asked, failed), changed: true };
}

/** Returns why this machine cannot be asked. */
async function publish(
  options: DriveOptions,
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
    // The next look sees whose request stands, and says so.
    if (isBureauError(error) && error.code === "conflict") return undefined;
    return faultOf(error);
  }
}

/**
 * What is wrong with one machine, which is no reason to stop for the others. Rethrows what says nothing about it: a
 * homeserver that is away, a session that is not accepted any more, a bug.
 */
function faultOf(error: unknown): string {
  if (error instanceof InputError) return error.message;
  if (!isBureauError(error) || isAway(error) || error.code === "unauthorized") throw error;
  return messageOf(error);
}

/** What the rollout's machines are told to run. */
export function targetOf(rollout: Rollout): UpgradeTarget {
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

/** Every machine's heartbeat; version and desired state of those that something may be decided about. */
async function gatherFacts(
  options: Pick<DriveOptions, "session" | "fleet" | "clock">,
  rollout: Rollout,
): Promise<FleetFacts> {
  const { session, fleet, clock } = options;
  const listed = await listMachines(session, fleet);
  const wanted = lookedAt(rollout, (name) =>
    listed.some((machine) => machine.name === name && isOnline(machine, clock.now())),
  );
  const facts = await Promise.all(
    listed.map(async (machine): Promise<[MachineLocalpart, MachineFacts]> => {
      const name = parseMachine(machine.name);
      const heartbeat = {
        online: isOnline(machine, clock.now()),
        ...(machine.last_seen === undefined ? {} : { lastSeen: machine.last_seen }),
      };
      if (!wanted.has(name)) return [name, heartbeat];
      return [name, { ...heartbeat, ...(await lookAt(session, name)) }];
    }),
  );
  return new Map(facts);
}

async function lookAt(
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

function lookedAt(rollout: Rollout, online: (machine: string) => boolean): Set<string> {
  if (rollout.state === "rolling-back") return new Set(rollout.machines.map(({ machine }) => machine));
  const underWay = rollout.machines.filter(isUnderWay);
  const most = Math.max(rollout.canary, rollout.batch) + LOOK_AHEAD;
  const next = rollout.machines.filter(({ state, machine }) => state === "pending" && online(machine));
  return new Set([...underWay, ...next.slice(0, most)].map(({ machine }) => machine));
}

function stepsOf(rollout: Rollout, facts: FleetFacts): Map<string, string> {
  return new Map(
    rollout.machines.filter(isUnderWay).map((one) => {
      const version = facts.get(one.machine)?.seen?.version;
      return [one.machine, version?.request_id === one.request_id ? (version?.step ?? "asked") : "asked"];
    }),
  );
}
