/** One request as handlers see it: parameters, query and a body that has passed the limits and a schema. */
import * as v from "valibot";
import type { Session } from "../auth/sessions.ts";
import { isJsonObject, type JsonObject } from "../rooms/room-event.ts";
import { badJson, invalidParam, MatrixError, tooLarge } from "./matrix-error.ts";

/** Maximum bytes of a request body. Events end at 64 KiB. */
const REQUEST_BYTES_MAX = 1_048_576;
/** Maximum depth of JSON, so that no recursive walk exhausts the stack. */
const JSON_DEPTH_MAX = 128;

export type RequestContext = {
  readonly method: string;
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly session: Session | undefined;
  /** The caller's address, for device lists; null on a unix socket. */
  readonly remoteAddress: string | null;
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal;
  /** Disables the idle timeout of the connection, for long polls. */
  readonly holdOpen: () => void;
  /** The body as a JSON object; `{}` when it is empty. Errors: M_NOT_JSON, M_BAD_JSON, M_TOO_LARGE. */
  readonly json: () => Promise<JsonObject>;
};

/** A path parameter. The router guarantees that it exists. */
export function param(request: RequestContext, name: string): string {
  const value = request.params[name];
  if (value === undefined) throw new Error(`route has no parameter ${name}`);
  return value;
}

/** The body parsed by `schema`. Missing keys are M_MISSING_PARAM, others M_BAD_JSON. */
export async function parseBody<const Schema extends v.GenericSchema>(
  request: RequestContext,
  schema: Schema,
): Promise<v.InferOutput<Schema>> {
  return parseValue(schema, await request.json());
}

export function parseValue<const Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const issue = result.issues[0];
  const where = v.getDotPath(issue) ?? "the body";
  if (issue.received === "undefined") throw new MatrixError(400, "M_MISSING_PARAM", `Missing key ${where}`);
  throw badJson(`Bad value at ${where}: ${issue.message}`);
}

/** A whole number of the query, clamped to `max`; `fallback` when it is absent. */
export function intQuery(query: URLSearchParams, name: string, fallback: number, max: number): number {
  const text = query.get(name);
  if (text === null || text === "") return fallback;
  if (!/^\d{1,15}$/.test(text)) {
    throw invalidParam(
      `Query parameter ${name} must be a whole number, not ${JSON.stringify(text.slice(0, 40))}`,
    );
  }
  return Math.min(Number(text), max);
}

/** `dir` of the query: "b" or "f". */
export function directionQuery(query: URLSearchParams, fallback: "b" | "f"): "b" | "f" {
  const text = query.get("dir") ?? fallback;
  if (text !== "b" && text !== "f")
    throw invalidParam(`dir must be "b" or "f", not ${JSON.stringify(text.slice(0, 40))}`);
  return text;
}

/** Reads and parses a JSON object body within the limits. */
export async function readJson(request: Request): Promise<JsonObject> {
  const text = decodeUtf8(await readBytes(request));
  if (text.trim() === "") return {};
  return parseJsonObject(text);
}

/** Parses text that must be a JSON object of integers, well-formed strings and bounded depth. */
export function parseJsonObject(text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new MatrixError(400, "M_NOT_JSON", "Content is not JSON");
  }
  if (!isJsonObject(value)) throw badJson("Content must be a JSON object");
  checkDepth(value, 0);
  return value;
}

function checkDepth(value: unknown, depth: number): void {
  if (typeof value !== "object" || value === null) return;
  if (depth >= JSON_DEPTH_MAX) throw badJson(`JSON is nested deeper than ${JSON_DEPTH_MAX} levels`);
  for (const inner of Object.values(value)) checkDepth(inner, depth + 1);
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new MatrixError(400, "M_NOT_JSON", "Content is not UTF-8");
  }
}

async function readBytes(request: Request): Promise<Uint8Array> {
  const declared = Number(request.headers.get("content-length") ?? "0");
  if (declared > REQUEST_BYTES_MAX) throw oversized();
  if (request.body === null) return new Uint8Array();
  if (request.headers.has("content-length")) return new Uint8Array(await request.arrayBuffer());
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of request.body) {
    total += chunk.length;
    if (total > REQUEST_BYTES_MAX) throw oversized();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

const oversized = (): MatrixError => tooLarge(`The request body is larger than ${REQUEST_BYTES_MAX} bytes`);
