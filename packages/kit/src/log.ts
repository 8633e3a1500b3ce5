/** What a program tells of itself while it runs. The writer to stderr is `os/log`. */

export type LogLevel = "debug" | "info" | "warn" | "error";
export type LogFields = Record<string, unknown>;

/**
 * The stable name of what happened, `<subject>.<what>` in lower case: `sandbox.created`. Queries and alerts match it;
 * the sentence beside it is for people and may change.
 */
export type LogEvent = `${string}.${string}`;

export type Log = {
  debug(event: LogEvent, message: string, fields?: LogFields): void;
  info(event: LogEvent, message: string, fields?: LogFields): void;
  warn(event: LogEvent, message: string, fields?: LogFields): void;
  error(event: LogEvent, message: string, fields?: LogFields): void;
  /** A log that adds `fields` to every record. */
  with(fields: LogFields): Log;
};
