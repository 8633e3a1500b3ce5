/** Runs the rollout controller until the rollout ends, and shows its progress. Shared by `start` and `resume`. */
import { type DriveOptions, driveRollout } from "@bureau/control/rollouts/rollout-controller";
import { isOpen, notOver } from "@bureau/control/rollouts/rollout-order";
import { isTurningBack, isUnderWay, resumeRollout } from "@bureau/control/rollouts/rollout-plan";
import { type RolloutPlace, type StoredRollout, writeRollout } from "@bureau/control/rollouts/rollout-store";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import { tryFileLock } from "@bureau/os/file-lock";
import { userLockFile } from "@bureau/os/layout";
import { takeTurn } from "@bureau/os/turn";
import type { Rollout, RolloutMachine } from "@bureau/schema/rollout";
import type { CommandContext } from "../command/command.ts";
import { sayNext } from "../command/say-next.ts";
import { untilSignal } from "../command/until-signal.ts";
import { countsOf, outcomeOf, printRollout, rolloutJson, shortName } from "./rollout-report.ts";

/** Restarts a rollout that has stopped. @throws BureauError `conflict` when there is nothing left to do */
export async function reopen(
  session: MatrixSession,
  place: RolloutPlace,
  stored: StoredRollout,
): Promise<Rollout> {
  const { state, machines } = stored.rollout;
  if (state === "running" || state === "rolling-back") return stored.rollout;
  const isLeft = machines.some(
    (one) => isUnderWay(one) || ["failed", "skipped", "pending"].includes(one.state),
  );
  if (state === "rolled-back" || !(isLeft || isTurningBack(stored.rollout)))
    throw new BureauError("conflict", `The rollout "${place.id}" is over: ${state}`, {
      hint: "start another with bureau rollout start --all --host-env PATH",
    });
  return await writeRollout(session, place, stored, resumeRollout(stored.rollout));
}

/** @throws BureauError `conflict` while another rollout runs in the fleet */
export function requireNoOther(
  stored: readonly StoredRollout[],
  isMeant: (rollout: StoredRollout) => boolean,
): void {
  const other = stored.find((one) => isOpen(one) && !isMeant(one));
  if (other !== undefined) throw notOver(other.id);
}

type Driven = Pick<DriveOptions, "session" | "fleet" | "place" | "rollout">;

type Asked = Pick<CommandContext, "terminal"> & { readonly flags: { readonly json: boolean } };

export async function drive(invocation: Asked, driven: Driven): Promise<number> {
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
    shown.fail(
      `Rollout ${place.id}: its state stays in Matrix; bureau rollout resume ${place.id} continues it`,
    );
    throw error;
  });
  const isAny = (state: Rollout["machines"][number]["state"]): boolean =>
    rollout.machines.some((one) => one.state === state);
  const ok = rollout.state === "done" && !isAny("failed") && isAny("succeeded");
  if (ok) shown.done(`Rollout ${place.id}: ${countsOf(rollout)}`);
  else shown.fail(`Rollout ${place.id} is ${rollout.state}: ${countsOf(rollout)}`);
  if (invocation.flags.json) terminal.json({ ok, ...rolloutJson(place.id, rollout) });
  else printRollout(terminal, rollout);
  if (isAny("skipped")) terminal.say("\nnote: machines that were skipped keep their previous build");
  if (rollout.state !== "rolled-back" && (!ok || isAny("skipped")))
    sayNext(
      terminal,
      `bureau rollout resume ${place.id} continues it; bureau machine show MACHINE has its history`,
    );
  return ok ? 0 : 1;
}

/** Two controllers of one rollout do no harm, but one on a host is enough. */
export function lockRollout(id: string): Disposable {
  const lock = tryFileLock(userLockFile(`rollout-${id}`, process.env));
  if (lock !== undefined) return lock;
  throw new BureauError("conflict", `Another command on this host runs the rollout "${id}"`, {
    hint: `bureau rollout show ${id}`,
  });
}

/** Notes the outcome of each machine once, when it finishes; not of machines that had finished before. */
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
