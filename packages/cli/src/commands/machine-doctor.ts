/** `bureau machine doctor`: looks at an installation, repairs it, undoes a repair, removes it. */
import { rmSync } from "node:fs";
import { isBureauError, messageOf } from "@bureau/kit/errors";
import { booleanFlag, type Invocation, listFlag, stringFlag, UsageError } from "../command/command.ts";
import { nearest } from "../command/nearest.ts";
import { describeAction, type Step } from "../doctor/action.ts";
import { lastBackups, undoLast } from "../doctor/backups.ts";
import type { Check, CheckResult } from "../doctor/check.ts";
import { checkTable } from "../doctor/check-table.ts";
import { missingFlags } from "../doctor/checks/configuration-checks.ts";
import { examine, examineSettled, fix, lockHost, planOf } from "../doctor/doctor.ts";
import { changesOf, printPlan, printResults, toJson } from "../doctor/doctor-report.ts";
import { ELEVATED_EXIT_BASE, requireTrustworthy, runElevated } from "../doctor/elevate.ts";
import { openRecord } from "../doctor/install-record.ts";
import { runCommand } from "../doctor/run-command.ts";
import { type Subject, subjectOf } from "../doctor/subject.ts";
import { remoteDoctor } from "../remote/remote-doctor.ts";
import { targetArgument } from "../remote/target-argument.ts";
import { uninstall } from "./machine-uninstall.ts";

const exit = { ok: 0, failing: 1 } as const;

/** Exit code 0: nothing fails; 1: something does; 2: the doctor could not do its work. An uninstall has its own two. */
export async function run(invocation: Invocation): Promise<number> {
  const elevated = booleanFlag(invocation, "elevated");
  try {
    const code = await dispatch(invocation);
    return elevated ? ELEVATED_EXIT_BASE + code : code;
  } catch (error) {
    if (!isBureauError(error)) throw error;
    const misused = error instanceof UsageError;
    const isUninstall = booleanFlag(invocation, "uninstall") && !misused;
    if (isUninstall && !elevated) throw error;
    const failure = new UsageError(error.message, error.hint, { cause: error.cause });
    if (!elevated) throw failure;
    if (booleanFlag(invocation, "json"))
      invocation.terminal.json({ ok: false, error: failure.message, code: error.code, hint: failure.hint });
    invocation.terminal.say(`${invocation.terminal.style.red("error:")} ${failure.message}`);
    if (failure.hint !== "") invocation.terminal.say(`\n  → ${failure.hint}`);
    return ELEVATED_EXIT_BASE + (isUninstall ? 1 : 2);
  }
}

function dispatch(invocation: Invocation): Promise<number> {
  const target = targetArgument(invocation, ["home"]);
  if (target.kind !== "local") return remoteDoctor(invocation, target);
  const wants = (name: string): boolean => booleanFlag(invocation, name);
  if (wants("uninstall")) return uninstall(invocation);
  if (wants("undo")) return undo(invocation);
  return wants("fix") ? repair(invocation) : look(invocation);
}

/** The checks that `--check` names; all of them without. */
function chosenChecks(invocation: Invocation): readonly Check[] {
  const ids = listFlag(invocation, "check").flatMap((value) => value.split(","));
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

async function look(invocation: Invocation): Promise<number> {
  const { terminal } = invocation;
  const results = await examine(chosenChecks(invocation), subjectOf(invocation));
  if (booleanFlag(invocation, "json")) terminal.json(toJson(results));
  else printResults(results, terminal, new Set());
  return exitCodeOf(results);
}

async function repair(invocation: Invocation): Promise<number> {
  const { terminal } = invocation;
  const [checks, subject] = [chosenChecks(invocation), subjectOf(invocation)];
  const before = await examineSettled(checks, subject);
  const steps = planOf(before);
  if (booleanFlag(invocation, "dry-run") || steps.length === 0 || subject.instance !== undefined)
    return showPlan(invocation, subject, before, steps);
  if (process.getuid?.() !== 0) {
    printPlan(steps, terminal.say);
    const code = await runElevated(subject.ownBuild, elevatedArgs(invocation), subject.bootstrap);
    if (code === exit.ok) removeBootstrap(invocation, steps);
    return code;
  }
  requireTrustworthy(subject.ownBuild);
  if (!booleanFlag(invocation, "elevated")) printPlan(steps, terminal.say);
  const fixed = await fix({
    checks,
    subject,
    onStep: (step, error) => {
      const shown = terminal.step(describeAction(step.action));
      if (error === undefined) shown.done();
      else
        shown.fail(`${describeAction(step.action)}: ${isBureauError(error) ? error.message : String(error)}`);
    },
  });
  const { results, changes, errors } = fixed;
  if (exitCodeOf(results) === exit.ok) removeBootstrap(invocation, steps);
  const wasBroken = new Set(
    before
      .filter(({ finding }) => finding.status === "fail" || finding.status === "warn")
      .map(({ check }) => check.id),
  );
  const repaired = results.filter(
    ({ check, finding }) => wasBroken.has(check.id) && finding.status === "pass",
  );
  if (booleanFlag(invocation, "json"))
    terminal.json(toJson(results, { changes, ...(errors.length === 0 ? {} : { errors }) }));
  else printResults(results, terminal, new Set(repaired.map(({ check }) => check.id)));
  return exitCodeOf(results);
}

/** A bootstrap file that has served holds a password that is worth nothing any more. */
function removeBootstrap(invocation: Invocation, steps: readonly Step[]): void {
  const path = stringFlag(invocation, "bootstrap-file");
  if (path === undefined || path === "-" || !steps.some(({ action }) => action.kind === "join")) return;
  try {
    rmSync(path, { force: true });
  } catch (error) {
    invocation.terminal.say(
      `The bootstrap file "${path}" has served and can be removed: ${messageOf(error)}`,
    );
  }
}

/** Nothing is done: either that was asked for, or there is nothing to do, or nothing that a doctor may do. */
function showPlan(
  invocation: Invocation,
  subject: Subject,
  results: readonly CheckResult[],
  steps: readonly Step[],
): number {
  const { terminal } = invocation;
  const dryRun = booleanFlag(invocation, "dry-run");
  if (booleanFlag(invocation, "json"))
    terminal.json(
      toJson(results, { changes: dryRun ? changesOf(steps) : [], ...(dryRun ? { dry_run: true } : {}) }),
    );
  else {
    printResults(results, terminal, new Set());
    terminal.print("");
    if (steps.length > 0) printPlan(steps, terminal.print);
    else terminal.print(nothingToDo(results));
    if (
      subject.instance === undefined &&
      results.some(
        ({ check, finding }) =>
          check.id === "machine-conf" && finding.status === "fail" && finding.actions === undefined,
      )
    )
      terminal.print(`\nWhich machine this is has to be said: ${missingFlags}`);
  }
  return exitCodeOf(results);
}

function nothingToDo(results: readonly CheckResult[]): string {
  const unseen = results.filter(({ finding }) => finding.found.startsWith("only root may look"));
  const hint =
    unseen.length === 0 || process.getuid?.() === 0
      ? ""
      : ` What only root may see is not looked at: sudo bureau machine doctor --fix`;
  return `Nothing that --fix can do.${hint}`;
}

async function undo(invocation: Invocation): Promise<number> {
  const { terminal } = invocation;
  const json = booleanFlag(invocation, "json");
  if (process.getuid?.() !== 0)
    return runElevated(subjectOf(invocation).ownBuild, elevatedArgs(invocation), undefined);
  if (booleanFlag(invocation, "dry-run")) {
    const last = lastBackups();
    if (json) terminal.json({ time: last?.time ?? null, restored: last?.paths ?? [], dry_run: true });
    else if (last === undefined) terminal.print("There is nothing to undo.");
    else
      terminal.print(
        `Would put back, as before the fix of ${last.time}:\n${last.paths.map((path) => `  ${path}`).join("\n")}`,
      );
    return exit.ok;
  }
  using _lock = await lockHost();
  const { time, restored, skipped } = undoLast(openRecord());
  if (restored.some((path) => path.startsWith("/etc/systemd/")))
    await runCommand(["systemctl", "daemon-reload"]);
  if (json) terminal.json({ time, restored, skipped });
  else {
    terminal.print(
      `Put back, as before the fix of ${time}:\n${restored.map((path) => `  ${path}`).join("\n")}`,
    );
    if (skipped.length > 0) terminal.print("\nNot put back:");
    for (const { path, why } of skipped) terminal.print(`  ${path}: ${why}`);
  }
  return exit.ok;
}

/** The same command for the doctor that sudo runs; the bootstrap travels on standard input. */
function elevatedArgs(invocation: Invocation): string[] {
  const args = ["machine", "doctor", "--system"];
  for (const [name, value] of Object.entries(invocation.flags)) {
    if (["elevated", "system", "home", "bootstrap-file"].includes(name)) continue;
    if (value === true) args.push(`--${name}`);
    else if (typeof value === "string") args.push(`--${name}`, value);
    else if (Array.isArray(value)) for (const item of value) args.push(`--${name}`, String(item));
  }
  if (invocation.flags["bootstrap-file"] !== undefined) args.push("--bootstrap-file", "-");
  return args;
}
