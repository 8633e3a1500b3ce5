/**
 * The edge: `unknown` becomes a typed value here, or an `InputError` that says what was being read, where in it the
 * fault lies and what was expected. Schemas are valibot's; types are inferred from them.
 */
import * as v from "valibot";
import { RefError } from "./refs.ts";

/** Input from outside that breaks its schema. */
export class InputError extends Error {
  readonly code = "invalid-input";
  constructor(
    /** What was being read, for example `m.bureau.template "agent"`. */
    readonly what: string,
    /** One sentence per fault, each with its path, for example `command.0: expected string but received 5`. */
    readonly faults: readonly string[],
    /** The next command, where the reader knows one. */
    readonly hint = "",
  ) {
    super(`Invalid ${what}: ${faults.join("; ")}`);
    this.name = "InputError";
  }
}

/** Faults named in one error; more would bury the first. */
const FAULTS_MAX = 5;

/** Characters of one fault: what was received is quoted in it, and may be of any size. */
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

/** Parses JSON text, then {@link parse}. */
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
 * A JSON object as it stands, with every key it has. valibot's `record` takes a list for one, and leaves out the keys
 * `__proto__`, `prototype` and `constructor`.
 */
export const jsonObject = v.custom<Record<string, unknown>>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  ({ received }) => `expected an object but received ${received}`,
);

/** The keys that valibot's `record` leaves out without a word. */
const LOST_KEYS = ["__proto__", "prototype", "constructor"];

/** Whether no map of ours can hold this key. */
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
