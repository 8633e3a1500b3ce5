/** `KEY=VALUE`, as labels, variables, fields and credentials are typed. */
import { isLostKey } from "@bureau/schema/parse";
import { UsageError } from "./command.ts";

export type Pair = {
  /** Where it was typed, for the error: `--env`. */
  readonly what: string;
  /** The expected form: `NAME=VALUE`. */
  readonly form: string;
  readonly example: string;
  /** The form of a key; by default, any text that is not empty. */
  readonly key?: RegExp;
};

const anyKey = /./su;
/** Keys of labels: what other readers of the state event can match, without quoting. */
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
    throw new UsageError(`${what} "${typed}": "${name}" is not allowed as a name`, `for example ${example}`);
  return [name, typed.slice(at + 1)];
}

/** A label of a machine. */
export const parseLabel = (typed: string, what: string): [key: string, value: string] =>
  parseKeyValue(typed, { what, form: "KEY=VALUE", example: "gpu=a100", key: labelKey });

/** Names of environment variables that a sandbox accepts. */
const variableName = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** `--env NAME=VALUE`. */
export const parseVariable = (typed: string): [name: string, value: string] =>
  parseKeyValue(typed, {
    what: "--env",
    form: "NAME=VALUE",
    example: "--env LANG=C.UTF-8",
    key: variableName,
  });
