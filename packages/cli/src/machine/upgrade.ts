/** `bureau machine upgrade`: upgrades one machine, or rolls it back; with --all or --label, many. */
import { configPlace } from "@bureau/control/machines/machine-config";
import { readMachineVersion } from "@bureau/control/machines/machine-version";
import { followUpgrade, type UpgradeOutcome } from "@bureau/control/rollouts/follow-upgrade";
import type { UpgradePreview } from "@bureau/control/rollouts/upgrade-preview";
import { newRequestId, requestVersion, rollbackTarget } from "@bureau/control/rollouts/upgrade-request";
import { nameOf, runsAlready, type UpgradeTarget } from "@bureau/control/rollouts/upgrade-target";
import { systemClock } from "@bureau/kit/clock";
import { parseDuration } from "@bureau/kit/duration";
import { messageOf } from "@bureau/kit/errors";
import { takeTurn } from "@bureau/os/turn";
import type { MachineVersion } from "@bureau/schema/events";
import {
  defineCommand,
  defineFlags,
  definePositionals,
  type Invocation,
  UsageError,
  withRule,
} from "../command/command.ts";
import { isHere, machineOf, openSession } from "../command/operator.ts";
import { sayNext } from "../command/say-next.ts";
import { dryRunFlag, fleetFlag, jsonFlag, sessionFlags } from "../command/shared-flags.ts";
import { untilSignal } from "../command/until-signal.ts";
import { previewJson, previewLines } from "../rollout/preview-report.ts";
import { type One, previewOne, requestedTarget, TIMEOUT_DEFAULT } from "../rollout/requested-build.ts";
import { resumeRollout } from "../rollout/resume.ts";
import { buildFlags, machinesFlags, orderFlags, timeoutFlag } from "../rollout/rollout-flags.ts";
import { startRollout } from "../rollout/start.ts";
import { readAbsence } from "./absence.ts";
import { readTarget } from "./local-build.ts";

/** With these flags it is a rollout, whose state is in Matrix. */
const manyMachines = ["all", "label"] as const;

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...fleetFlag,
  local: { type: "boolean", excludes: [...manyMachines, "resume"], summary: "This host's machine" },
  all: { ...machinesFlags.all, excludes: ["label", "resume"] },
  label: { ...machinesFlags.label, excludes: ["resume"] },
  "host-env": { ...buildFlags["host-env"], excludes: ["rollback", "resume"] },
  "on-machine": buildFlags["on-machine"],
  rollback: {
    type: "boolean",
    excludes: [...manyMachines, "resume"],
    summary: "Return to the previous build",
  },
  wait: { type: "boolean", summary: "Wait for the outcome (a rollout always does)" },
  ...withRule(timeoutFlag, { needs: ["wait", ...manyMachines], excludes: ["resume"] }),
  ...withRule(dryRunFlag, { excludes: ["resume"] }),
  ...withRule(orderFlags, { needs: manyMachines }),
  resume: { type: "string", value: "ROLLOUT", summary: "Continue a rollout, as bureau rollout resume does" },
});
const positionals = definePositionals([
  { name: "machine", summary: "Its name in the fleet, or full localpart", optional: true },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Upgrade Bureau on one or more machines, or roll back",
  details:
    "Writes the requested build to each machine's configuration. The machine checks it, replaces its programs in place,\nand rolls back by itself when they do not work. --all and --label start a rollout, as bureau rollout start does, and\n--resume continues one (docs/rollouts.md).",
  positionals,
  flags,
  examples: [
    "bureau machine upgrade --local --host-env PATH --wait",
    "bureau machine upgrade gpu-box --rollback --wait",
    "bureau machine upgrade --all --host-env /nix/store/…-bureau-host-env --canary 1 --batch 5",
    "bureau machine upgrade --resume 20260131-093000-4f2a",
  ],
  run,
});

async function run(invocation: Asked): Promise<number> {
  checkFlags(invocation);
  const { all, label, resume } = invocation.flags;
  if (resume !== undefined) return resumeRollout(invocation, resume);
  if (all || label.length > 0) return startRollout(invocation);
  return upgradeOne(invocation);
}

/** Exactly one way to choose machines, and one to choose the build. */
function checkFlags(invocation: Asked): void {
  const rollback = invocation.flags.rollback;
  const environment = invocation.flags["host-env"] !== undefined;
  const ways = [
    ["--local", invocation.flags.local],
    ["a machine", invocation.args.machine !== undefined],
    ["--all", invocation.flags.all],
    ["--label", invocation.flags.label.length > 0],
    ["--resume", invocation.flags.resume !== undefined],
  ] as const;
  const given = ways.filter(([, is]) => is).map(([name]) => name);
  const help = "bureau machine upgrade --help";
  if (given.length === 0)
    throw new UsageError("No machine given: name one, or use --local, --all or --label K=V", help);
  if (given.length > 1) throw new UsageError(`${given.join(" and ")} exclude each other`, help);
  if (!rollback && !environment && given[0] !== "--resume")
    throw new UsageError("No build given: use --host-env PATH, or --rollback for the previous one", help);
}

async function upgradeOne(invocation: Asked): Promise<number> {
  const { terminal } = invocation;
  const timeoutMs = parseDuration(invocation.flags.timeout ?? TIMEOUT_DEFAULT, "--timeout");
  const one = await prepareOne(invocation);
  const { session, place, machine, running, target } = one;
  if (invocation.flags["dry-run"]) return showPreview(invocation, await previewOne(one));
  if (running?.state === "upgrading")
    terminal.say(`note: ${machine} is being upgraded already; this request replaces that one`);
  const requestId = newRequestId();
  await requestVersion({ session, takeTurn }, place, target, { requestId, clock: systemClock });
  if (!invocation.flags.wait) return await showRequested(invocation, one, requestId);
  const shown = terminal.step(`Upgrading ${machine}`);
  const outcome = await untilSignal((signal) =>
    followUpgrade({
      session,
      place,
      requestId,
      timeoutMs,
      clock: systemClock,
      signal,
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

async function prepareOne(invocation: Asked): Promise<One> {
  const session = openSession(invocation);
  const machine = machineOf(invocation, invocation.args.machine);
  const here = isHere(invocation, machine);
  // Report a wrong path before the first request.
  const typed = invocation.flags.rollback
    ? undefined
    : requestedTarget(invocation.flags, here ? [] : [machine]);
  const place = await configPlace(session, machine);
  const running = await readMachineVersion(session, place);
  const target = typed ?? seenRollbackTarget(machine, running, here);
  return { session, machine, place, running, target };
}

/** On this host, checks now that the previous build is still there. */
function seenRollbackTarget(
  machine: string,
  running: MachineVersion | undefined,
  here: boolean,
): UpgradeTarget {
  const target = rollbackTarget(machine, running);
  return here ? readTarget(target.path) : target;
}

function showPreview(invocation: Asked, preview: UpgradePreview): number {
  if (invocation.flags.json) invocation.terminal.json({ dry_run: true, ...previewJson(preview) });
  else for (const line of previewLines(preview)) invocation.terminal.print(line);
  return 0;
}

async function showRequested(invocation: Asked, one: One, requestId: string): Promise<number> {
  const { machine, target, place, running } = one;
  const away = isHere(invocation, machine) ? undefined : await readAbsence(one.session, machine);
  const unchanged = running?.state === "running" && runsAlready(target, running);
  if (invocation.flags.json)
    invocation.terminal.json({
      machine,
      request_id: requestId,
      host_environment_path: target.path,
      outcome: "requested",
      unchanged,
      config_room_id: place.room,
      ...(away === undefined ? {} : { note: `${machine} ${away}` }),
    });
  else {
    invocation.terminal.print(
      `Requested ${nameOf(target)} on ${machine}${unchanged ? ", which runs it already" : ""}`,
    );
    if (away !== undefined) invocation.terminal.say(`note: ${machine} ${away} and upgrades when it is back`);
    sayNext(invocation.terminal, `bureau machine show ${machine} shows the outcome`);
  }
  return 0;
}

function showOutcome(invocation: Asked, one: One, requestId: string, outcome: UpgradeOutcome): number {
  const { machine, target, running } = one;
  const { terminal } = invocation;
  const ok = outcome.outcome === "succeeded";
  if (invocation.flags.json)
    terminal.json({
      ok,
      machine,
      request_id: requestId,
      host_environment_path: target.path,
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
  "rolled-back": "tried it, and rolled back",
  refused: "refused it; nothing changed",
  timeout: "did not report the outcome in time; the request stays",
  superseded: "received another request",
  interrupted: "has the request, which stays",
};
const hints: Readonly<Record<Failure | "succeeded", string>> = {
  succeeded: "",
  "rolled-back": "run the command again to retry",
  refused: "run the command again to retry",
  timeout: "--rollback requests the previous build",
  superseded: "the last request applies",
  interrupted: "--rollback requests the previous build",
};
