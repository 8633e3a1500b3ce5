/** Starts one program of an instance and waits until it answers; an error quotes the end of its log. */
import { existsSync, readFileSync } from "node:fs";
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { waitFor } from "@bureau/kit/wait-for";
import { bootstrapFile, programLog } from "@bureau/os/layout";
import type { Instance } from "./instance.ts";
import { lastErrors } from "./last-errors.ts";
import { type ProgramName, startProgram, supervisorStatus } from "./supervisor-wire.ts";

/** A program on a slow machine starts in seconds. */
export const START_MS_MAX = 60_000;

/**
 * Starts a program and waits until `check` gives an answer, which it returns. The wait ends early when the program keeps
 * exiting.
 * @throws BureauError `failed` with the errors at the end of its log, `unauthorized` when the machine was revoked
 */
export async function startAndWatch<T>(
  instance: Instance,
  program: ProgramName,
  clock: Clock,
  check: () => Promise<T | undefined>,
): Promise<T> {
  await startProgram(instance.layout, program);
  let died: string | undefined;
  const before = await programReport(instance, program);
  const answer = await waitFor(
    async () => {
      const { state, restarts } = await programReport(instance, program);
      if (state === "revoked" || restarts > before.restarts + 2) died = state;
      return died === undefined && state === "running" ? await check() : died;
    },
    { timeoutMs: START_MS_MAX, clock },
  );
  if (answer !== undefined && died === undefined) return answer as T;
  const log = programLog(instance.layout, program);
  if (died === "revoked") throw revokedError(instance);
  const why = died === undefined ? `it did not answer within ${START_MS_MAX / 1000} s` : "it keeps exiting";
  const { errors, hint } = lastErrors(existsSync(log) ? readFileSync(log, "utf8") : "");
  throw new BureauError("failed", `Cannot start the ${program}: ${[why, ...errors].join("\n  ")}`, {
    hint: hint === "" ? `read ${log}` : `${hint}; its log: ${log}`,
  });
}

/** The machine was removed from its fleet. */
export const revokedError = (instance: Instance): BureauError =>
  new BureauError("unauthorized", `The machine "${instance.machine}" was revoked: it runs nothing any more`, {
    hint: `to join again: bureau machine provision ${instance.machine} --output ${bootstrapFile(instance.layout)}, bureau down, bureau up; to start over: bureau down, then remove "${instance.layout.home}"`,
  });

/** The state of one program, from the supervisor. */
export async function programReport(
  instance: Instance,
  program: ProgramName,
): Promise<{ state: string; restarts: number }> {
  const { programs } = await supervisorStatus(instance.layout);
  return programs.find(({ name }) => name === program) ?? { state: "starting", restarts: 0 };
}
