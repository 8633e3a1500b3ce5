/**
 * The edge: `unknown` becomes a typed value here, or an `InputError` that names the input, the path of each fault and the
 * expected value. Schemas are valibot's; types are inferred from them.
 */
import * as v from "valibot";
import { RefError } from "./refs.ts";

/** Input from outside that does not match its schema. */
export class InputError extends Error {
  readonly code = "invalid-input";
  constructor(
    /** Name of the input, for example `m.bureau.template "agent"`. */
    readonly what: string,
    /** One sentence for each fault, with its path, for example `command.0: expected string but received 5`. */
    readonly faults: readonly string[],
    /** The next command, if there is one. */
    readonly hint = "",
  ) {
    super(`Invalid ${what}: ${faults.join("; ")}`);
    this.name = "InputError";
  }
}

/** Faults named in one error. */
const FAULTS_MAX = 5;

/** Characters of one fault: it quotes the received value, which may have any size. */
const FAULT_CHARS_MAX = 300;

/** Parses `value`, or throws an {@link InputError} about `what`. */
export function parse<const Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
  what: string,
  hint = "",
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  throw new InputError(
    what,
    result.issues.slice(0, FAULTS_MAX).map((issue) => {
      const path = v.getDotPath(issue);
      const fault = path === null ? issue.message : `${path}: ${issue.message}`;
      return fault.length > FAULT_CHARS_MAX ? `${fault.slice(0, FAULT_CHARS_MAX)}…` : fault;
    }),
    hint,
  );
}

/** Parses JSON text, then calls {@link parse}. */
export function parseJson<const Schema extends v.GenericSchema>(
  schema: Schema,
  text: string,
  what: string,
  hint = "",
): v.InferOutput<Schema> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new InputError(
      what,
      [`it is not JSON (${error instanceof Error ? error.message : String(error)})`],
      hint,
    );
  }
  return parse(schema, value, what, hint);
}

/**
 * A JSON object with all of its keys. valibot's `record` accepts a list, and drops the keys
 * `__proto__`, `prototype` and `constructor`.
 */
export const jsonObject = v.custom<Record<string, unknown>>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  // A string is not quoted: where a payload belongs, it may be a secret.
  ({ input, received }) =>
    `expected an object but received ${typeof input === "string" ? "a string" : received}`,
);

/** The keys that valibot's `record` drops silently. */
const LOST_KEYS = ["__proto__", "prototype", "constructor"];

/** Whether our maps refuse this key. */
export const isLostKey = (key: string): boolean => LOST_KEYS.includes(key);

/** An object with arbitrary keys and values of one type. Refuses a key that would be lost. */
export function mapOf<const Schema extends v.GenericSchema>(value: Schema) {
  return v.pipe(
    jsonObject,
    v.rawCheck(({ dataset, addIssue }) => {
      const lost = dataset.typed ? LOST_KEYS.filter((key) => Object.hasOwn(dataset.value, key)) : [];
      for (const key of lost) addIssue({ message: `a key may not be called "${key}"` });
    }),
    v.record(v.string(), value),
  );
}

/** A schema for a string that one of the parsers of refs.ts accepts. */
export function ref<T extends string>(parser: (value: string) => T): v.GenericSchema<string, T> {
  return v.pipe(
    v.string(),
    v.rawTransform(({ dataset, addIssue, NEVER }) => {
      try {
        return parser(dataset.value);
      } catch (error) {
        addIssue({ message: error instanceof RefError ? error.message : String(error) });
        return NEVER;
      }
    }),
  );
}

/**
 * A field that other implementations emit as `""`, `null` or not at all when it is unset (wire facts, section 1.9):
 * all three read as absent.
 */
export function unset<const Schema extends v.GenericSchema>(schema: Schema) {
  return v.optional(
    v.union([
      v.pipe(
        v.union([v.literal(""), v.null()]),
        v.transform(() => undefined),
      ),
      schema,
    ]),
  );
}

/** A list that a Go writer emits as `null` when it is empty; absent reads as empty too. */
export function list<const Schema extends v.GenericSchema>(item: Schema) {
  return v.nullish(v.array(item), () => []);
}
