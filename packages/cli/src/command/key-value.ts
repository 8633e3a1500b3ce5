/** `KEY=VALUE`, as labels are typed. */
import { UsageError } from "./command.ts";

/** What labels may be called: what a state event's readers elsewhere can match, and nothing that needs quoting. */
const keyForm = /^[A-Za-z0-9][A-Za-z0-9._/-]*$/u;

/** @throws UsageError with `what` as the thing that is none */
export function parseKeyValue(typed: string, what: string): readonly [key: string, value: string] {
  const at = typed.indexOf("=");
  const key = typed.slice(0, Math.max(at, 0));
  if (!keyForm.test(key)) throw new UsageError(`${what} "${typed}" is not KEY=VALUE`, "for example gpu=a100");
  return [key, typed.slice(at + 1)];
}
