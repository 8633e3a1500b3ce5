/** `bureau machine upgrade`: machines are told to run other binaries, or again those they ran before. */

import { whyAway } from "@bureau/control/machines/list-machines";
import { type ConfigPlace, configPlace, readAssignments } from "@bureau/control/machines/machine-config";
import { followUpgrade, type UpgradeOutcome } from "@bureau/control/rollouts/follow-upgrade";
import { previewLines, previewUpgrade, type UpgradePreview } from "@bureau/control/rollouts/upgrade-preview";
import {
  newRequestId,
  readMachineVersion,
  requestVersion,
  rollbackTarget,
} from "@bureau/control/rollouts/upgrade-request";
import {
  assumeTarget,
  nameOf,
  runsAlready,
  type UpgradeTarget,
} from "@bureau/control/rollouts/upgrade-target";
import { systemClock } from "@bureau/kit/clock";
import { parseDuration } from "@bureau/kit/duration";
import { messageOf } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import { takeTurn } from "@bureau/os/turn";
import type { MachineVersion } from "@bureau/schema/events";
import { type MachineLocalpart, principalOfUser } from "@bureau/schema/refs";
import { booleanFlag, type Invocation, listFlag, stringFlag, UsageError } from "../command/command.ts";
import { isHere, machineOf, openSession } from "../command/operator.ts";
import { sayNext } from "../command/say-next.ts";
import { untilSignal } from "../command/until-signal.ts";
import { resumeRollouts, upgradeMany } from "../rollout/start.ts";
import { readTarget, requireReachable } from "./local-build.ts";

/** A machine rolls back by itself long before; prefetching may take its time. */
export const TIMEOUT_DEFAULT = "5m";

export async function run(invocation: Invocation): Promise<number> {
  checkFlags(invocation);
  if (stringFlag(invocation, "resume") !== undefined) return resumeRollouts(invocation);
  if (booleanFlag(invocation, "all") || listFlag(invocation, "label").length > 0)
    return upgradeMany(invocation);
  return upgradeOne(invocation);
}

/** Exactly one way of saying which machines, and one of saying what they shall run. */
function checkFlags(invocation: Invocation): void {
  const rollback = booleanFlag(invocation, "rollback");
  const environment = stringFlag(invocation, "host-env") !== undefined;
  const ways = [
    ["--local", booleanFlag(invocation, "local")],
    ["a machine", invocation.args[0] !== undefined],
    ["--all", booleanFlag(invocation, "all")],
    ["--label", listFlag(invocation, "label").length > 0],
    ["--resume", stringFlag(invocation, "resume") !== undefined],
  ] as const;
  const given = ways.filter(([, is]) => is).map(([name]) => name);
  const help = "bureau machine upgrade --help";
  if (given.length === 0)
    throw new UsageError("Which machine? Name one, or say --local, --all or --label K=V", help);
  if (given.length > 1) throw new UsageError(`${given.join(" and ")} exclude each other`, help);
  if (!rollback && !environment && given[0] !== "--resume")
    throw new UsageError("Which version? --host-env PATH names one, --rollback the one before", help);
}

/** `--host-env`, looked into unless it lies on the machine only. */
export function requestedTarget(invocation: Invocation, elsewhere: readonly string[]): UpgradeTarget {
  const typed = stringFlag(invocation, "host-env") ?? "";
  if (booleanFlag(invocation, "on-machine")) return assumeTarget(typed);
  const target = readTarget(typed);
  requireReachable(target, elsewhere);
  return target;
}

type One = {
  readonly session: MatrixSession;
  readonly machine: MachineLocalpart;
  readonly place: ConfigPlace;
  readonly running: MachineVersion | undefined;
  readonly target: UpgradeTarget;
};

async function upgradeOne(invocation: Invocation): Promise<number> {
  const { terminal } = invocation;
  const timeoutMs = parseDuration(stringFlag(invocation, "timeout") ?? TIMEOUT_DEFAULT, "--timeout");
  const one = await prepareOne(invocation);
  const { session, place, machine, running, target } = one;
  if (booleanFlag(invocation, "dry-run")) return showPreview(invocation, await previewOne(one));
  if (running?.state === "upgrading")
    terminal.say(`note: ${machine} is being upgraded already; this request takes that one's place`);
  const requestId = newRequestId();
  await requestVersion({ session, takeTurn }, place, target, { requestId, clock: systemClock });
  if (!booleanFlag(invocation, "wait")) return await showRequested(invocation, one, requestId);
  const shown = terminal.step(`Upgrading ${machine}`);
  const outcome = await untilSignal((signal) =>
    followUpgrade({
      ...{ session, place, requestId, timeoutMs, clock: systemClock, signal },
      onStep: (step) => shown.update(`Upgrading ${machine}: ${step}`),
    }),
  ).catch((error: unknown) => {
    shown.fail(`Upgrading ${machine}: ${messageOf(error)}`);
    throw error;
  });
  const took = `${(outcome.duration_ms / 1_000).toFixed(1)} s`;
  if (outcome.outcome === "succeeded") shown.done(`${machine} runs ${nameOf(target)} (${took})`);
  else shown.fail(`${machine}: ${outcome.outcome} (${took})`);
  return showOutcome(invocation, one, requestId, outcome);
}

async function prepareOne(invocation: Invocation): Promise<One> {
  const session = openSession(invocation);
  const machine = machineOf(invocation, invocation.args[0]);
  const here = isHere(invocation, machine);
  // A path that is wrong is said before anybody is asked for anything.
  const typed = booleanFlag(invocation, "rollback")
    ? undefined
    : requestedTarget(invocation, here ? [] : [machine]);
  const place = await configPlace(session, machine);
  const running = await readMachineVersion(session, place);
  const target = typed ?? seenRollbackTarget(machine, running, here);
  return { session, machine, place, running, target };
}

/** On this host, whether it is still there is seen now. */
function seenRollbackTarget(
  machine: string,
  running: MachineVersion | undefined,
  here: boolean,
): UpgradeTarget {
  const target = rollbackTarget(machine, running);
  return here ? readTarget(target.path) : target;
}

export async function previewOne(one: One): Promise<UpgradePreview> {
  const { assignments } = await readAssignments(one.session, one.place);
  const principals = assignments.map(({ principal }) => principalOfUser(principal));
  return previewUpgrade(one.machine, one.target, one.running, principals);
}

function showPreview(invocation: Invocation, preview: UpgradePreview): number {
  if (booleanFlag(invocation, "json")) invocation.terminal.json({ dry_run: true, ...preview });
  else for (const line of previewLines(preview)) invocation.terminal.print(line);
  return 0;
}

async function showRequested(invocation: Invocation, one: One, requestId: string): Promise<number> {
  const { machine, target, place, running } = one;
  const away = isHere(invocation, machine) ? undefined : await whyAway(one.session, machine);
  const unchanged = running?.state === "running" && runsAlready(target, running);
  if (booleanFlag(invocation, "json"))
    invocation.terminal.json({
      ...{ machine, request_id: requestId, host_environment_path: target.path },
      ...{ outcome: "requested", unchanged, config_room_id: place.room },
      ...(away === undefined ? {} : { note: `${machine} ${away}` }),
    });
  else {
    invocation.terminal.print(
      `${machine} is asked to run ${nameOf(target)}${unchanged ? ", as it does" : ""}`,
    );
    if (away !== undefined) invocation.terminal.say(`note: ${machine} ${away} and acts when it is back`);
    sayNext(invocation.terminal, `bureau machine show ${machine} shows the outcome`);
  }
  return 0;
}

function showOutcome(invocation: Invocation, one: One, requestId: string, outcome: UpgradeOutcome): number {
  const { machine, target, running } = one;
  const { terminal } = invocation;
  const ok = outcome.outcome === "succeeded";
  if (booleanFlag(invocation, "json"))
    terminal.json({
      ok,
      ...{ machine, request_id: requestId, host_environment_path: target.path },
      ...(target.version === undefined ? {} : { version: target.version }),
      ...outcome,
      ...(running === undefined ? {} : { previous: running.host_environment_path }),
    });
  if (ok) return 0;
  terminal.say(`${terminal.style.red("error:")} ${machine} ${failures[outcome.outcome]}${because(outcome)}`);
  sayNext(terminal, `bureau machine show ${machine} has the history; ${hints[outcome.outcome]}`);
  return 1;
}

const because = ({ reason }: UpgradeOutcome): string => (reason === undefined ? "" : `: ${reason}`);

type Failure = Exclude<UpgradeOutcome["outcome"], "succeeded">;
const failures: Readonly<Record<UpgradeOutcome["outcome"], string>> = {
  succeeded: "runs it",
  "rolled-back": "tried it, and went back to what it ran before",
  refused: "refused it; nothing was changed",
  timeout: "did not say in time what became of the request, which stays",
  superseded: "was asked for something else",
  interrupted: "was asked; the request stays",
};
const hints: Readonly<Record<Failure | "succeeded", string>> = {
  succeeded: "",
  "rolled-back": "asked again it tries again",
  refused: "asked again it tries again",
  timeout: "--rollback asks for what ran before",
  superseded: "whoever asked last decides",
  interrupted: "--rollback asks for what ran before",
};
