/** The actions of observe.sock: what this machine does, who may see which principal, and what a terminal says. */
import { BureauError } from "@bureau/kit/errors";
import {
  type DebugPart,
  type DebugReply,
  debugParts,
  type LogsReplySchema,
  type MachineReport,
  type ObserveRequest,
  type ServiceTokenReply,
} from "@bureau/schema/observe-wire";
import {
  type MachineLocalpart,
  type PrincipalName,
  parsePrincipalName,
  type UserId,
} from "@bureau/schema/refs";
import type { InferOutput } from "valibot";
import type { Enforce } from "../authorization/authorize.ts";
import type { Launcher } from "../launcher/launcher-client.ts";
import { type QueryDeps, queryAllowances, queryAuthorization, queryGrants } from "./authorization-queries.ts";
import type { ObserveAction } from "./observe-server.ts";
import type { TokenVerifier } from "./token-verifier.ts";

/** Lines of a terminal when the caller does not say. */
const LINES_DEFAULT = 200;

export type ObserveDeps = QueryDeps & {
  readonly machine: MachineLocalpart;
  readonly machineUser: UserId;
  /** A daemon that has only just started looks first: what ran before it runs now, and is to be seen. */
  readonly report: () => Promise<MachineReport>;
  /** Resolves once the configuration is known, or known to take longer: an early request is not refused for being early. */
  readonly ready: () => Promise<unknown>;
  readonly enforce: Enforce;
  readonly userOf: (name: PrincipalName) => UserId;
  readonly viewsOf: (part: DebugPart) => DebugReply["view"];
  readonly launcher: Launcher;
  readonly tokens: TokenVerifier;
  /** @throws BureauError */
  readonly serviceToken: (actor: UserId, role: string) => ServiceTokenReply;
  /** The proxy of a principal has refused an act. */
  readonly collectRefusals: (name: PrincipalName) => void;
};

export function observeActions(deps: ObserveDeps): Record<string, ObserveAction> {
  const query =
    (answer: (deps: QueryDeps, asking: UserId, request: ObserveRequest) => object): ObserveAction =>
    async (request) => {
      const asking = await actorOf(deps, request);
      await deps.ready();
      return { reply: answer(deps, asking, request) };
    };
  return {
    query_authorization: query(queryAuthorization),
    query_grants: query(queryGrants),
    query_allowances: query(queryAllowances),
    debug: async (request) => ({ reply: debugFor(deps, request) }),
    refused: async (request) => ({ reply: refusedBy(deps, request) }),
    status: async () => ({ reply: await deps.report() }),
    list: async (request) => ({ reply: await listFor(deps, await actorOf(deps, request), request) }),
    mint_service_token: async (request) => ({
      reply: await serviceTokenFor(deps, await actorOf(deps, request), request),
    }),
    logs: async (request) => ({ reply: await logsFor(deps, await actorOf(deps, request), request) }),
  };
}

function actorOf(deps: ObserveDeps, request: ObserveRequest): Promise<UserId> {
  if (request.token === undefined || request.token === "")
    throw new BureauError("unauthorized", "The request has no access token", { hint: "bureau login" });
  return deps.tokens.verify(request.token);
}

function debugFor({ viewsOf }: ObserveDeps, { part }: ObserveRequest): DebugReply {
  if (part === undefined)
    throw new BureauError("invalid-input", "The request names no part", {
      hint: `the parts are ${debugParts.join(", ")}`,
    });
  return { ok: true, part, view: viewsOf(part) };
}

/** No token: it only makes the daemon ask the proxy itself. */
function refusedBy({ collectRefusals }: ObserveDeps, { principal = "" }: ObserveRequest): object {
  collectRefusals(parsePrincipalName(principal));
  return { ok: true };
}

/** The principals of this machine that `actor` may observe. */
async function listFor(deps: ObserveDeps, actor: UserId, request: ObserveRequest): Promise<object> {
  await deps.ready();
  const report = await deps.report();
  const principals = report.principals
    ?.filter(({ name }) => deps.authorize(actor, "observe", deps.userOf(parsePrincipalName(name))).allowed)
    .map(({ name, state }) => ({
      localpart: name,
      machine: deps.machine,
      observable: state === "running",
      local: true,
    }))
    .filter(({ observable }) => request.observable !== true || observable);
  const machines = [{ name: deps.machine, user_id: deps.machineUser, self: true, reachable: true }];
  return { ok: true, principals, machines };
}

async function serviceTokenFor(
  deps: ObserveDeps,
  actor: UserId,
  { service_role }: ObserveRequest,
): Promise<ServiceTokenReply> {
  if (service_role === undefined || service_role === "")
    throw new BureauError("invalid-input", "The request names no service role");
  await deps.ready();
  return deps.serviceToken(actor, service_role);
}

async function logsFor(
  deps: ObserveDeps,
  actor: UserId,
  request: ObserveRequest,
): Promise<InferOutput<typeof LogsReplySchema>> {
  if (request.principal === undefined || request.principal === "")
    throw new BureauError("invalid-input", "The request names no principal");
  const principal: PrincipalName = parsePrincipalName(request.principal);
  await deps.ready();
  deps.enforce(actor, "observe", deps.userOf(principal), "daemon/observe");
  const { output, live } = await deps.launcher.call("capture-output", {
    principal,
    lines: request.lines ?? LINES_DEFAULT,
  });
  return { ok: true, output, live };
}
