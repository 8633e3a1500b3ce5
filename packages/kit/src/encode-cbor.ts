/**
 * Writes CBOR as Bureau speaks it: RFC 8949 core deterministic encoding (sorted keys, shortest integers, definite
 * lengths). Apart from the decoder: the bundle of a program that only decodes contains no encoder.
 */
import { encode, rfc8949EncodeOptions } from "cborg";

const encodeOptions = { ...rfc8949EncodeOptions, ignoreUndefinedProperties: true };

/** Deterministic bytes. Properties that are `undefined` are left out; a `Map` may have integer keys. */
export const encodeCbor = (value: unknown): Uint8Array => encode(value, encodeOptions);
