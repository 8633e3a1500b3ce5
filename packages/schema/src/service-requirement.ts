/** A required service as a template names it: `<role>[:<endpoint>]` (wire facts, section 1.6). */
import { RefError } from "./refs.ts";

/** The endpoint of a service that speaks CBOR, which a requirement without one means. */
export const CBOR_ENDPOINT = "cbor";

/** Role and endpoint become file names, and templates are untrusted: one segment, not hidden, no path. */
const name = /^[a-z0-9_=-][a-z0-9._=-]*$/u;
const NAME_BYTES_MAX = 64;

export type ServiceRequirement = {
  readonly role: string;
  readonly endpoint: string;
  /** The name of its socket in a sandbox, without `.sock`. */
  readonly socketName: string;
};

/** Stricter than the reference, which permits a path. @throws RefError */
export function parseServiceRole(value: string, kind = "service role"): string {
  if (name.test(value) && value.length <= NAME_BYTES_MAX) return value;
  throw new RefError(
    kind,
    value,
    `it must be 1 to ${NAME_BYTES_MAX} of a-z 0-9 . _ = -, and not start with "."`,
  );
}

/** @throws RefError */
export function parseServiceRequirement(value: string): ServiceRequirement {
  const colon = value.indexOf(":");
  const role = parseServiceRole(colon < 0 ? value : value.slice(0, colon), "required service");
  if (colon < 0) return { role, endpoint: CBOR_ENDPOINT, socketName: role };
  const endpoint = parseServiceRole(value.slice(colon + 1), "endpoint of a required service");
  return { role, endpoint, socketName: endpoint === CBOR_ENDPOINT ? role : `${role}-${endpoint}` };
}
