/**
 * Calls an action of a service that the template requires, from inside the sandbox: over the socket of its role, with the
 * token beside it. The token is read for each call, because the daemon replaces it before it expires.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { BureauError, errnoOf, isBureauError } from "@bureau/kit/errors";
import { callCbor } from "@bureau/os/cbor-client";
import { insidePaths } from "@bureau/schema/inside-paths";
import { parseServiceRole } from "@bureau/schema/service-requirement";
import type { GenericSchema, InferOutput } from "valibot";

export type CallOptions = {
  /** Default: where the sandbox has them. */
  readonly folder?: string;
  readonly signal?: AbortSignal;
};

/** @throws BureauError with the service's code: `forbidden` without the grant, `unavailable` when it does not answer */
export async function callService<const Schema extends GenericSchema>(
  role: string,
  action: string,
  fields: Readonly<Record<string, unknown>>,
  result: Schema,
  { folder = insidePaths.services, signal }: CallOptions = {},
): Promise<InferOutput<Schema>> {
  parseServiceRole(role);
  const call = (): Promise<InferOutput<Schema>> =>
    callCbor(join(folder, `${role}.sock`), { ...fields, action, token: tokenOf(folder, role) }, result, {
      peer: `service "${role}"`,
      hint: "the template of this principal must name it in required_services",
      ...(signal === undefined ? {} : { signal }),
    });
  try {
    return await call();
  } catch (error) {
    // The daemon replaced the token between our look at it and the service's.
    if (isBureauError(error) && error.code === "unauthorized") return await call();
    throw error;
  }
}

function tokenOf(folder: string, role: string): Uint8Array {
  const file = join(folder, "token", `${role}.token`);
  try {
    return readFileSync(file);
  } catch (error) {
    throw new BureauError("not-found", `Cannot read the token "${file}": ${errnoOf(error) ?? "unknown"}`, {
      hint: "the template of this principal must name the service in required_services",
    });
  }
}
