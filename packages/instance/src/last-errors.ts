/** The errors at the end of a program's log, for the error of its start. */
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";

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
