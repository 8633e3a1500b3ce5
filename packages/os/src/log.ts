/**
 * Structured logs: one JSON object a line on stderr, which journald and `bureau up` collect.
 * A `Secret` in a field prints as its placeholder; nothing else is redacted, so never log a raw credential.
 */
import { writeSync } from "node:fs";
import { isBureauError, messageOf } from "@bureau/kit/errors";
import { harmlessJson } from "@bureau/kit/harmless";
import type { Log, LogEvent, LogFields, LogLevel } from "@bureau/kit/log";

const rank: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };

function plain(value: unknown): unknown {
  if (isBureauError(value))
    return { code: value.code, message: messageOf(value), hint: value.hint || undefined };
  if (value instanceof Error) return { message: messageOf(value) };
  return value;
}

/** A log line must never throw: values that JSON cannot hold are written as text. */
function toJson(line: LogFields): string {
  try {
    return JSON.stringify(line, (_, value: unknown) =>
      typeof value === "bigint" ? value.toString() : value,
    );
  } catch (error) {
    const { time, level, program, event, message } = line;
    return JSON.stringify({
      time,
      level,
      program,
      event,
      message,
      fields: `not written: ${messageOf(error)}`,
    });
  }
}

/** `program` names the writer; `level` is the lowest that is written (default from `BUREAU_LOG`, else info). */
export function createLog(
  program: string,
  options: { level?: LogLevel; fields?: LogFields; write?: (line: string) => void } = {},
): Log {
  const fromEnv = process.env["BUREAU_LOG"];
  const level =
    options.level ?? (fromEnv !== undefined && Object.hasOwn(rank, fromEnv) ? (fromEnv as LogLevel) : "info");
  const write = options.write ?? writeStderr;
  const base = { program, ...options.fields };
  const emit = (at: LogLevel, event: LogEvent, message: string, fields: LogFields = {}): void => {
    if (rank[at] < rank[level]) return;
    const line: LogFields = { time: new Date().toISOString(), level: at, ...base, event, message };
    for (const [key, value] of Object.entries(fields)) line[key] = plain(value);
    write(`${harmlessJson(toJson(line))}\n`);
  };
  return {
    debug: (event, message, fields) => emit("debug", event, message, fields),
    info: (event, message, fields) => emit("info", event, message, fields),
    warn: (event, message, fields) => emit("warn", event, message, fields),
    error: (event, message, fields) => emit("error", event, message, fields),
    with: (fields) => createLog(program, { ...options, level, fields: { ...options.fields, ...fields } }),
  };
}

function writeStderr(line: string): void {
  try {
    writeSync(2, line);
  } catch {
    // stderr is gone (its reader died): the daemon continues without it.
  }
}
