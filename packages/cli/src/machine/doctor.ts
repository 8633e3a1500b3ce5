/** `bureau machine doctor`: checks an installation, repairs it, undoes a repair, removes it. */
import { rmSync } from "node:fs";
import type { Check, CheckResult } from "@bureau/host/checks/check";
import { checkTable } from "@bureau/host/checks/check-table";
import { openHostView } from "@bureau/host/checks/host-view";
import { examine, examineWhenReady, type Fixed, fix, lockHost, planOf } from "@bureau/host/doctor/doctor";
import { introductionOf } from "@bureau/host/doctor/introduction";
import { changesOf, type Step } from "@bureau/host/doctor/plan";
import type { Subject } from "@bureau/host/doctor/subject";
import { undoLast } from "@bureau/host/doctor/undo";
import { lastBackups } from "@bureau/host/record/backups";
import { openRecord } from "@bureau/host/resources/host-record";
import { describeAction } from "@bureau/host/resources/registry";
import { ELEVATED_EXIT_BASE, ELEVATED_JOINED, runElevated } from "@bureau/host/system/elevate";
import { requireTrustworthy } from "@bureau/host/system/require-trustworthy";
import { isBureauError, messageOf } from "@bureau/kit/errors";
import { nearest } from "@bureau/kit/nearest";
import { shellLine } from "@bureau/kit/shell-words";
import {
  defineCommand,
  defineFlags,
  definePositionals,
  type Invocation,
  UsageError,
  withRule,
} from "../command/command.ts";
import { dryRunFlag, jsonFlag } from "../command/shared-flags.ts";
import { asTyped, typedCommand } from "../command/typed-command.ts";
import { untilSignal } from "../command/until-signal.ts";
import { flagWords } from "../remote/flag-words.ts";
import { remoteDoctor } from "../remote/remote-doctor.ts";
import { sshFlags } from "../remote/ssh-flags.ts";
import { targetArgument } from "../remote/target-argument.ts";
import { planDigest, printPlan, printResults, toJson } from "./doctor-report.ts";
import { byRecord, subjectFlags, subjectOf } from "./doctor-subject.ts";
import { uninstall, uninstallFlags } from "./uninstall.ts";

const flags = defineFlags({
  check: {
    type: "string",
    value: "ID",
    multiple: true,
    excludes: byRecord,
    summary: "Run only this check (docs/doctor.md lists them)",
  },
  fix: { type: "boolean", excludes: byRecord, summary: "Repair what can be repaired" },
  undo: { type: "boolean", excludes: ["uninstall"], summary: "Restore what the last fix replaced" },
  uninstall: { type: "boolean", summary: "Remove Bureau from this host, as bureau machine uninstall does" },
  ...withRule(dryRunFlag, { needs: ["fix", ...byRecord] }),
  ...subjectFlags,
  elevated: { type: "boolean", hidden: true, summary: "Set by the doctor when it runs itself through sudo" },
  "called-as": {
    type: "string",
    value: "COMMAND",
    needs: ["elevated"],
    hidden: true,
    summary: "Set with --elevated: the command as a person types it",
  },
  "plan-shown": {
    type: "string",
    value: "DIGEST",
    needs: ["elevated"],
    hidden: true,
    summary: "Set with --elevated: the plan that was shown",
  },
  ...withRule(uninstallFlags, { needs: ["uninstall"] }),
  ...sshFlags,
  ...jsonFlag,
});
const positionals = definePositionals([
  {
    name: "target",
    summary: "Another machine, ssh://user@host[:port] (default: this one)",
    optional: true,
  },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Check a machine, repair it, or remove Bureau from it",
  details:
    "Checks accounts, folders, sockets, units, configuration, homeserver, services, versions, space and clock, and changes\nnothing. --fix repairs what it can, and makes a bare host a machine of the fleet; it shows its plan and asks for sudo\nonce. Exit code: 0 no check fails, 1 a check fails, 2 doctor could not run.",
  positionals,
  flags,
  examples: [
    "bureau machine doctor",
    "bureau machine doctor ssh://root@gpu-box --fix",
    "bureau machine doctor --json --check homeserver --check clock",
    "bureau machine doctor --fix --homeserver http://matrix.internal:6167 --machine-name bureau/fleet/prod/machine/sharkbox --server-name bureau.local --fleet bureau/fleet/prod --bootstrap-file bootstrap.json",
    "bureau machine doctor --undo",
    "bureau machine doctor --uninstall --dry-run",
  ],
  run,
});

const exit = { ok: 0, failing: 1, interrupted: 3, signalled: 130 } as const;

/** Exit code 0: no check fails; 1: a check fails; 2: the doctor could not run; 130: it was interrupted. */
async function run(invocation: Asked): Promise<number> {
  const elevated = invocation.flags.elevated;
  // sudo drops the environment variable that holds the command as the person typed it.
  const calledAs = invocation.flags["called-as"];
  if (elevated && calledAs !== undefined) process.env["BUREAU_COMMAND"] = calledAs;
  try {
    const code = await dispatch(invocation);
    return elevated ? ELEVATED_EXIT_BASE + code : code;
  } catch (error) {
    if (!isBureauError(error)) throw error;
    const misused = error instanceof UsageError;
    const isUninstall = invocation.flags.uninstall && !misused;
    if (isUninstall && !elevated) throw error;
    const failure = new UsageError(error.message, asTyped(error.hint), { cause: error.cause });
    if (!elevated) throw failure;
    if (invocation.flags.json)
      invocation.terminal.json({ ok: false, error: failure.message, code: error.code, hint: failure.hint });
    invocation.terminal.say(`${invocation.terminal.style.red("error:")} ${failure.message}`);
    if (failure.hint !== "") invocation.terminal.say(`\n  → ${failure.hint}`);
    return ELEVATED_EXIT_BASE + (isUninstall ? 1 : 2);
  }
}

function dispatch(invocation: Asked): Promise<number> {
  const { args, flags } = invocation;
  const target = targetArgument(args.target, flags, { withoutHome: true });
  if (target.kind !== "local")
    return remoteDoctor(target, { ...invocation, deployTarget: args.target ?? "ssh://…" });
  if (flags.uninstall) return uninstall(invocation);
  if (flags.undo) return undo(invocation);
  return flags.fix ? repair(invocation) : look(invocation);
}

/** The checks that `--check` names; all of them without. */
function chosenChecks(invocation: Asked): readonly Check[] {
  const ids = invocation.flags.check.flatMap((value) => value.split(","));
  if (ids.length === 0) return checkTable;
  const known = checkTable.map(({ id }) => id);
  for (const id of ids)
    if (!known.includes(id)) {
      const guess = nearest(id, known);
      throw new UsageError(
        `There is no check "${id}"`,
        guess === undefined ? "docs/doctor.md lists them" : `did you mean "${guess}"?`,
      );
    }
  return checkTable.filter(({ id }) => ids.includes(id));
}

const exitCodeOf = (results: readonly CheckResult[]): number =>
  results.some(({ finding }) => finding.status === "fail") ? exit.failing : exit.ok;

async function look(invocation: Asked): Promise<number> {
  const { terminal } = invocation;
  const subject = subjectOf(invocation);
  const results = await examine(chosenChecks(invocation), subject);
  if (invocation.flags.json) terminal.json(toJson(results));
  else {
    introduce(invocation, subject);
    printResults(results, terminal, new Set());
  }
  return exitCodeOf(results);
}

/** A host that has not joined fails most checks, so doctor first reports the host's state. */
function introduce({ terminal }: Asked, subject: Subject): void {
  const said = subject.instance === undefined ? introductionOf(openHostView(subject)) : undefined;
  if (said !== undefined) terminal.print(`${terminal.style.bold(asTyped(said))}\n`);
}

async function repair(invocation: Asked): Promise<number> {
  const [checks, subject] = [chosenChecks(invocation), subjectOf(invocation)];
  const before = await examineWhenReady(checks, subject);
  const steps = planOf(before);
  if (invocation.flags["dry-run"] || steps.length === 0 || subject.instance !== undefined)
    return showPlan(invocation, subject, before, steps);
  return process.getuid?.() === 0
    ? repairAsRoot(invocation, checks, subject, before)
    : repairThroughSudo(invocation, subject, steps);
}

async function repairThroughSudo(
  invocation: Asked,
  subject: Subject,
  steps: readonly Step[],
): Promise<number> {
  const { terminal } = invocation;
  printPlan(steps, terminal.say);
  const args = [
    ...elevatedArgs(invocation),
    `--called-as=${typedCommand()}`,
    `--plan-shown=${planDigest(steps)}`,
  ];
  const typed = ["machine", "doctor", ...flagWords(invocation.flags)];
  const code = await runElevated(subject.ownBuild, args, subject.bootstrap, typed);
  if (code >= ELEVATED_JOINED) removeBootstrap(invocation);
  return concluded(invocation, code % ELEVATED_JOINED);
}

async function repairAsRoot(
  invocation: Asked,
  checks: readonly Check[],
  subject: Subject,
  before: readonly CheckResult[],
): Promise<number> {
  const { terminal } = invocation;
  requireTrustworthy(subject.ownBuild);
  const steps = planOf(before);
  // Root sees more than the caller: show the plan again unless it is the same.
  if (invocation.flags["plan-shown"] !== planDigest(steps)) printPlan(steps, terminal.say);
  const onStep = (step: Step, error?: unknown): void => {
    const shown = terminal.step(describeAction(step.action));
    if (error === undefined) shown.done();
    else
      shown.fail(`${describeAction(step.action)}: ${isBureauError(error) ? error.message : String(error)}`);
  };
  const fixed = await untilSignal((signal) => fix({ checks, subject, onStep, signal }));
  report(invocation, before, fixed);
  const code = fixed.isInterrupted ? exit.interrupted : exitCodeOf(fixed.results);
  const hasJoined = fixed.steps.some(({ action }) => action.kind === "join");
  if (invocation.flags.elevated) return code + (hasJoined ? ELEVATED_JOINED : 0);
  if (hasJoined) removeBootstrap(invocation);
  return concluded(invocation, code);
}

function report(invocation: Asked, before: readonly CheckResult[], fixed: Fixed): void {
  const { terminal } = invocation;
  const { results, changes, errors, isInterrupted } = fixed;
  if (invocation.flags.json) {
    const more = {
      ...(errors.length === 0 ? {} : { errors }),
      ...(isInterrupted ? { interrupted: true } : {}),
    };
    terminal.json(toJson(results, { changes, ...more }));
    return;
  }
  if (isInterrupted) return;
  const isBroken = ({ finding: { status } }: CheckResult): boolean => status === "fail" || status === "warn";
  const wasBroken = new Set(before.filter(isBroken).map(({ check }) => check.id));
  const repaired = results.filter(
    ({ check, finding }) => wasBroken.has(check.id) && finding.status === "pass",
  );
  printResults(results, terminal, new Set(repaired.map(({ check }) => check.id)));
}

/** The exit code, and the command to continue after an interruption. */
function concluded({ terminal, flags }: Asked, code: number): number {
  if (code !== exit.interrupted) return code;
  const again = shellLine([typedCommand(), "machine", "doctor", ...flagWords(flags)]);
  terminal.say(
    `\nInterrupted. The steps above are complete, and no step is partly done. To continue: ${again}`,
  );
  return exit.signalled;
}

/** After the machine has joined, the password in the bootstrap file is no longer valid. */
function removeBootstrap(invocation: Asked): void {
  const path = invocation.flags["bootstrap-file"];
  if (path === undefined || path === "-") return;
  try {
    rmSync(path, { force: true });
  } catch (error) {
    invocation.terminal.say(
      `Cannot remove the bootstrap file "${path}", which is no longer needed: ${messageOf(error)}`,
    );
  }
}

/** Shows the plan and changes nothing: for --dry-run, or when there is nothing to repair. */
function showPlan(
  invocation: Asked,
  subject: Subject,
  results: readonly CheckResult[],
  steps: readonly Step[],
): number {
  const { terminal } = invocation;
  const dryRun = invocation.flags["dry-run"];
  if (invocation.flags.json)
    terminal.json(
      toJson(results, { changes: dryRun ? changesOf(steps) : [], ...(dryRun ? { dry_run: true } : {}) }),
    );
  else {
    introduce(invocation, subject);
    printResults(results, terminal, new Set());
    terminal.print("");
    if (steps.length > 0) printPlan(steps, terminal.print);
    else terminal.print("--fix has nothing to repair.");
  }
  const file = invocation.flags["bootstrap-file"];
  const hasJoined = results.some(
    ({ check, finding }) => check.id === "machine-joined" && finding.status === "pass",
  );
  if (hasJoined && steps.length === 0 && subject.hasBootstrap === true && file !== "-")
    terminal.say(`This machine has joined already: the bootstrap file "${file}" is not needed; remove it.`);
  return exitCodeOf(results);
}

async function undo(invocation: Asked): Promise<number> {
  const { terminal } = invocation;
  const json = invocation.flags.json;
  if (process.getuid?.() !== 0)
    return runElevated(subjectOf(invocation).ownBuild, elevatedArgs(invocation), undefined);
  if (invocation.flags["dry-run"]) {
    const last = lastBackups();
    const paths = last?.items.map(({ path }) => path) ?? [];
    if (json) terminal.json({ time: last?.time ?? null, restored: paths, dry_run: true });
    else if (last === undefined) terminal.print("There is nothing to undo.");
    else
      terminal.print(
        `Would restore, as before the fix of ${last.time}:\n${paths.map((path) => `  ${path}`).join("\n")}`,
      );
    return exit.ok;
  }
  using _lock = await lockHost();
  const { time, restored, skipped } = await undoLast(openRecord());
  if (json) terminal.json({ time, restored, skipped });
  else {
    terminal.print(
      `Restored, as before the fix of ${time}:\n${restored.map((path) => `  ${path}`).join("\n")}`,
    );
    if (skipped.length > 0) terminal.print("\nNot restored:");
    for (const { path, why } of skipped) terminal.print(`  ${path}: ${why}`);
  }
  return exit.ok;
}

/** The arguments for the doctor that sudo runs. The bootstrap file is passed on standard input. */
function elevatedArgs(invocation: Asked): string[] {
  const own = ["elevated", "called-as", "plan-shown", "system", "home", "bootstrap-file"];
  const args = ["machine", "doctor", "--system", ...flagWords(invocation.flags, own)];
  if (invocation.flags["bootstrap-file"] !== undefined) args.push("--bootstrap-file", "-");
  return args;
}
