/** Runs the rollout controller until the rollout ends, and shows its progress. Shared by `start` and `resume`. */
import { type RunRollout, runRollout } from "@bureau/control/rollouts/rollout-controller";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { tryFileLock } from "@bureau/os/file-lock";
import { userLockFile } from "@bureau/os/layout";
import { takeTurn } from "@bureau/os/turn";
import type { Rollout, RolloutMachine } from "@bureau/schema/rollout";
import type { CommandContext } from "../command/command.ts";
import { sayNext } from "../command/say-next.ts";
import { untilSignal } from "../command/until-signal.ts";
import { countsOf, outcomeOf, printRollout, rolloutJson, shortName } from "./rollout-report.ts";

type Controlled = Pick<RunRollout, "session" | "fleet" | "place" | "rollout">;

type Asked = Pick<CommandContext, "terminal"> & { readonly flags: { readonly json: boolean } };

/** Runs a rollout until it ends or Ctrl-C. Returns the exit code. */
export async function controlRollout(invocation: Asked, controlled: Controlled): Promise<number> {
  const { terminal } = invocation;
  const { place } = controlled;
  const shown = terminal.step(`Rollout ${place.id}`);
  const noteEnds = endsNoted((line) => shown.note(line));
  const rollout = await untilSignal((signal) =>
    runRollout({
      ...controlled,
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

/** One rollout controller of a rollout on this host. @throws BureauError `conflict` when another command runs it */
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
