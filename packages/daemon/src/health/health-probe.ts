/**
 * One question to a principal: are you well? Over HTTP it goes to the principal's proxy (wire facts, section 7.3), so an
 * endpoint such as `/http/web/health` reaches what the proxy reaches; a sandbox has no network of its own. Over a socket
 * it is the `health` action that every service has (section 6.3).
 */
import { closeSync, lstatSync, openSync } from "node:fs";
import { join } from "node:path";
import { errnoOf, messageOf } from "@bureau/kit/errors";
import { callCbor } from "@bureau/os/cbor-client";
import { viaSocket } from "@bureau/os/egress";
import { type Layout, sandboxPaths } from "@bureau/os/layout";
import { insidePaths, serviceSocketName } from "@bureau/schema/inside-paths";
import type { FleetLocalpart, PrincipalName } from "@bureau/schema/refs";
import * as v from "valibot";
import type { CheckPlan } from "./health-check.ts";

/** What is wrong with it, for a person; undefined when nothing is. Never rejects. */
export type HealthProbe = (
  account: PrincipalName,
  check: CheckPlan,
  signal: AbortSignal,
) => Promise<string | undefined>;

const HealthAnswer = v.object({ healthy: v.boolean(), reason: v.optional(v.string()) });
/** Characters of what a service says about itself that are passed on. */
const REASON_CHARS_MAX = 500;

export function openHealthProbe(layout: Layout, fleet: FleetLocalpart): HealthProbe {
  return async (account, check, stop) => {
    const paths = sandboxPaths(layout, fleet, account);
    const signal = AbortSignal.any([stop, AbortSignal.timeout(check.timeoutMs)]);
    try {
      return check.endpoint === undefined
        ? await askService(paths.listen, check.timeoutMs, signal)
        : await askProxy(paths.adminSocket, check.endpoint, signal);
    } catch (error) {
      if (signal.aborted && !stop.aborted) return `no answer within ${check.timeoutMs / 1_000} s`;
      return messageOf(error).slice(0, REASON_CHARS_MAX);
    }
  };
}

async function askProxy(unix: string, endpoint: string, signal: AbortSignal): Promise<string | undefined> {
  const response = await fetch(`http://localhost${endpoint}`, {
    ...viaSocket(unix),
    redirect: "manual",
    signal,
  });
  await response.body?.cancel();
  return response.status === 200 ? undefined : `${endpoint} answered ${response.status}`;
}

/**
 * The folder is the sandbox's to write in: a link there could lead to any socket of the machine, so only a socket is
 * asked. It is reached through the folder's descriptor, since its path may be longer than a socket's address.
 */
async function askService(
  listen: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  const path = join(listen, serviceSocketName);
  try {
    if (!lstatSync(path).isSocket()) return `${insidePaths.serviceSocket} is not a socket`;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return `nothing listens on ${insidePaths.serviceSocket}`;
    throw error;
  }
  const folder = openSync(listen, "r");
  try {
    const answer = await callCbor(
      `/proc/self/fd/${folder}/${serviceSocketName}`,
      { action: "health" },
      HealthAnswer,
      { peer: "service", timeoutMs, signal },
    );
    if (answer.healthy) return undefined;
    return (answer.reason ?? "it says that it is not healthy").slice(0, REASON_CHARS_MAX);
  } finally {
    closeSync(folder);
  }
}
