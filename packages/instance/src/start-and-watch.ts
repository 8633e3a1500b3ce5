/** Starts one program of an instance and waits until it answers; an error quotes the end of its log. */
import { existsSync, readFileSync } from "node:fs";
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { waitFor } from "@bureau/kit/wait-for";
import { bootstrapFile, programLog } from "@bureau/os/layout";
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";
import type { Instance } from "./instance.ts";
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

const LAST_LINES = 5;

const LineSchema = v.object({
  level: v.string(),
  message: v.string(),
  hint: v.optional(v.string(), ""),
});

/** The errors at the end of a program's log, each once; lines of another format are quoted as they are. */
export function lastErrors(log: string): { errors: string[]; hint: string } {
  const lines = log.trimEnd().split("\n").slice(-LAST_LINES).map(readLine);
  const errors = lines.filter(({ level }) => level === "error");
  const hint = errors.at(-1)?.hint ?? "";
  return { errors: [...new Set(errors.map(({ message }) => message))].filter(Boolean), hint };
}

function readLine(line: string): v.InferOutput<typeof LineSchema> {
  try {
    return parseJson(LineSchema, line, "log line");
  } catch {
    return { level: "error", message: line, hint: "" };
  }
}
