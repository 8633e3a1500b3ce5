/** `KEY=VALUE`, as labels, variables, fields and credentials are typed. */
import { isLostKey } from "@bureau/schema/parse";
import { UsageError } from "./command.ts";

export type Pair = {
  /** What is typed, for the error: `--env`. */
  readonly what: string;
  /** What was expected: `NAME=VALUE`. */
  readonly form: string;
  readonly example: string;
  /** What a key may be; anything but nothing unless given. */
  readonly key?: RegExp;
};

const anyKey = /./su;
/** What labels may be called: what a state event's readers elsewhere can match, and nothing that needs quoting. */
const labelKey = /^[A-Za-z0-9][A-Za-z0-9._/-]*$/u;

/** @throws UsageError when it is no such pair */
export function parseKeyValue(
  typed: string,
  { what, form, example, key = anyKey }: Pair,
): [key: string, value: string] {
  const at = typed.indexOf("=");
  const name = typed.slice(0, Math.max(at, 0));
  if (!key.test(name)) throw new UsageError(`${what} "${typed}" is not ${form}`, `for example ${example}`);
  if (isLostKey(name))
    throw new UsageError(`${what} "${typed}": nothing may be called "${name}"`, `for example ${example}`);
  return [name, typed.slice(at + 1)];
}

/** A label of a machine. */
export const parseLabel = (typed: string, what: string): [key: string, value: string] =>
  parseKeyValue(typed, { what, form: "KEY=VALUE", example: "gpu=a100", key: labelKey });

/** What a sandbox accepts as the name of an environment variable. */
const variableName = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** `--env NAME=VALUE`. */
export const parseVariable = (typed: string): [name: string, value: string] =>
  parseKeyValue(typed, {
    what: "--env",
    form: "NAME=VALUE",
    example: "--env LANG=C.UTF-8",
    key: variableName,
  });
