import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { findByArguments } from "@bureau/os/process-table";
import { silentLog } from "@bureau/os/testing/silent-log";
import { eventually } from "@bureau/testkit/use-bureau";
import { type ProgramState, SupervisedProgram } from "./supervised-program.ts";

const folder = mkdtempSync(join(tmpdir(), "bureau-supervised-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/**
 * A program with a mark in its arguments, which ends by itself after a minute. It starts no children: between fork and
 * exec a child has its parent's arguments, and would be found by the same mark.
 */
function supervise(name: string, changed: (program: SupervisedProgram) => void, logFile = `${name}.log`) {
  const mark = join(folder, name);
  const program: SupervisedProgram = new SupervisedProgram(
    () => ({
      name,
      command: ["perl", "-e", "$| = 1; print qq(started\\n); sleep 60", mark],
      env: { PATH: process.env["PATH"] ?? "" },
      logFile: join(folder, logFile),
      graceMs: 5_000,
    }),
    { clock: systemClock, log: silentLog, changed: () => changed(program) },
  );
  return {
    program,
    found: () => findByArguments(mark),
    starts: () => readFileSync(join(folder, logFile), "utf8").split("started").length - 1,
  };
}

/** Throws once, when the program reaches `state`, like a write of the record on a full disk. */
function throwsOnceAt(state: ProgramState): (program: SupervisedProgram) => void {
  let hasThrown = false;
  return (program) => {
    if (hasThrown || program.report().state !== state) return;
    hasThrown = true;
    throw new Error("no space left on device");
  };
}

test("a start that cannot be recorded is not a failed start: there is one process, and it is known", async () => {
  const states: ProgramState[] = [];
  const fail = throwsOnceAt("running");
  const { program, found, starts } = supervise("unwritten", (changed) => {
    states.push(changed.report().state);
    fail(changed);
  });
  program.start();
  await eventually(async () => (starts() > 0 ? true : undefined));
  expect(states).toEqual(["running"]);
  expect([program.process]).toEqual(found());
  await program.stop();
  expect(found()).toEqual([]);
  expect(states).toEqual(["running", "stopped"]);
});

test("starts the program again after an end that cannot be recorded", async () => {
  const { program, found } = supervise("restarted", throwsOnceAt("backing-off"));
  program.start();
  const first = await eventually(async () => program.process);
  process.kill(first.pid, "SIGKILL");
  const second = await eventually(async () =>
    program.process?.pid === first.pid ? undefined : program.process,
  );
  expect(found()).toEqual([second]);
  await program.stop();
  expect(program.report().state).toBe("stopped");
});

test("stops the program although that cannot be recorded", async () => {
  const { program, found } = supervise("stopped", throwsOnceAt("stopped"));
  program.start();
  await eventually(async () => program.process);
  await program.stop();
  expect(found()).toEqual([]);
});

test("retries a log that cannot be opened like a program that cannot start", async () => {
  writeFileSync(join(folder, "in-the-way"), "");
  const { program } = supervise("no-log", () => {}, "in-the-way/program.log");
  program.start();
  await eventually(async () => (program.report().state === "backing-off" ? true : undefined));
  rmSync(join(folder, "in-the-way"));
  await eventually(async () => program.process);
  await program.stop();
});
