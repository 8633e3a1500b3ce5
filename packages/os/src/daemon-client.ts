/** Asking this machine's daemon, over observe.sock: one JSON line each way. */
import { dirname } from "node:path";
import { BureauError, type ErrorCode, errnoOf, messageOf } from "@bureau/kit/errors";
import {
  type AllowancesReply,
  AllowancesReplySchema,
  type AuthorizationReply,
  AuthorizationReplySchema,
  type DebugPart,
  type DebugReply,
  DebugReplySchema,
  type GrantsReply,
  GrantsReplySchema,
  type LogsReplySchema,
  LogsReplySchema as logsReply,
  type MachineReport,
  MachineReportSchema,
  OBSERVE_LINE_BYTES_MAX,
  ObserveErrorSchema,
  type ObserveRequest,
  type ServiceTokenReply,
  ServiceTokenReplySchema,
} from "@bureau/schema/observe-wire";
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";
import { type Layout, observeSocket, systemHost, systemLayout } from "./layout.ts";
import { unitStates } from "./systemctl.ts";
import { daemonUnit, REVOKED } from "./unit-names.ts";

/** The next command when no program answers. On a joined machine it must not start a second Bureau. */
const startHint = (layout: Layout): string =>
  layout.runDir === systemLayout.runDir ? "sudo bureau machine doctor says why" : "bureau up";

/** Longer than the daemon's own deadline for a token check (wire facts, section 8.1). */
const ANSWER_MS_MAX = 15_000;
const NEWLINE = 10;

/** The machine's status; needs no token. @throws BureauError `unavailable` when the daemon is away */
export const machineReport = (layout: Layout): Promise<MachineReport> =>
  ask(layout, { action: "status" }, MachineReportSchema);

export const agentLogs = (
  layout: Layout,
  request: { readonly token: string; readonly principal: string; readonly lines: number },
): Promise<v.InferOutput<typeof LogsReplySchema>> => ask(layout, { action: "logs", ...request }, logsReply);

/** A token for a service of this machine, and its socket. @throws BureauError `forbidden` without any grant for the role */
export const serviceToken = (
  layout: Layout,
  request: { readonly token: string; readonly service_role: string },
): Promise<ServiceTokenReply> =>
  ask(layout, { action: "mint_service_token", ...request }, ServiceTokenReplySchema);

/** May `actor` do `action` to `target`? All are user IDs. @throws BureauError `forbidden` when the token's user may not ask */
export const queryAuthorization = (
  layout: Layout,
  { action, ...request }: { token: string; actor: string; action: string; target?: string },
): Promise<AuthorizationReply> =>
  ask(layout, { action: "query_authorization", auth_action: action, ...request }, AuthorizationReplySchema);

/** What `principal`, a user ID, may do. */
export const queryGrants = (
  layout: Layout,
  request: { readonly token: string; readonly principal: string },
): Promise<GrantsReply> => ask(layout, { action: "query_grants", ...request }, GrantsReplySchema);

/** What others may do to `principal`, a user ID. */
export const queryAllowances = (
  layout: Layout,
  request: { readonly token: string; readonly principal: string },
): Promise<AllowancesReply> => ask(layout, { action: "query_allowances", ...request }, AllowancesReplySchema);

/**
 * What the daemon's pure parts see at this moment; needs no token. @throws BureauError `unavailable` when the daemon is
 * away
 */
export const debugView = async (layout: Layout, part: DebugPart): Promise<DebugReply["view"]> =>
  (await ask(layout, { action: "debug", part }, DebugReplySchema)).view;

async function ask<const Schema extends v.GenericSchema>(
  layout: Layout,
  request: ObserveRequest,
  schema: Schema,
): Promise<v.InferOutput<Schema>> {
  await requireRunning(layout);
  const line = await exchange(observeSocket(layout), `${JSON.stringify(request)}\n`, startHint(layout));
  const reply = parseJson(
    v.union([ObserveErrorSchema, v.looseObject({ ok: v.literal(true) })]),
    line,
    "daemon reply",
  );
  if (!reply.ok) {
    const failure = parseJson(ObserveErrorSchema, line, "daemon reply");
    throw new BureauError((failure.code ?? "failed") as ErrorCode, failure.error, {
      hint: failure.hint ?? "",
    });
  }
  return parseJson(schema, line, "daemon reply");
}

/**
 * systemd owns the socket of a system installation: a connection to it starts the daemon. On a revoked machine every
 * request would start a daemon that ends at once.
 */
async function requireRunning(layout: Layout): Promise<void> {
  if (layout.runDir !== systemLayout.runDir) return;
  const state = (await unitStates([daemonUnit])).get(daemonUnit);
  if (state === undefined || state.active === "active" || state.active === "activating") return;
  const why = state.exitStatus === REVOKED ? ": this machine was revoked or decommissioned" : "";
  throw new BureauError("unavailable", `The daemon does not run${why}`, { hint: startHint(layout) });
}

/**
 * Only root and members of the operators' group may open the socket of a system installation. Only its user may enter
 * the folder of an instance's socket.
 */
const accessHint = (path: string): string =>
  path === observeSocket(systemLayout)
    ? `sudo gpasswd -a "$USER" ${systemHost.operatorsGroup}, then log in again or: newgrp ${systemHost.operatorsGroup}`
    : `ls -ld "${dirname(path)}" shows the owner; a folder of yours needs mode 0700`;

/** No socket, or one whose program has ended. */
const noListener = (errno: string | undefined): boolean => errno === "ENOENT" || errno === "ECONNREFUSED";

/**
 * With the runtime's own socket: node:net brings all of Node's streams with it, a third of the start of a command that
 * reads (Bun 1.4.5).
 */
function exchange(path: string, request: string, startHint: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    let size = 0;
    let unsent: Uint8Array = Buffer.from(request);
    let open: Bun.Socket<undefined> | undefined;
    const end = (act: () => void): void => {
      clearTimeout(timer);
      // First, because terminating calls `close`: what is decided once stays.
      act();
      const socket = open;
      open = undefined;
      socket?.terminate();
    };
    const fail = (reason: string, code: ErrorCode = "unavailable"): void => {
      const hint = code === "forbidden" ? accessHint(path) : startHint;
      const error = new BureauError(code, `Cannot ask the daemon at "${path}": ${reason}`, { hint });
      end(() => reject(error));
    };
    const refuse = (error: unknown): void => {
      const errno = errnoOf(error);
      if (errno === "EACCES" || errno === "EPERM") fail("you may not open it", "forbidden");
      else fail(noListener(errno) ? "it does not run" : (errno ?? messageOf(error)));
    };
    const send = (socket: Bun.Socket<undefined>): void => {
      unsent = unsent.subarray(Math.max(0, socket.write(unsent)));
    };
    const timer = setTimeout(() => fail(`no answer within ${ANSWER_MS_MAX} ms`, "timeout"), ANSWER_MS_MAX);
    const socket: Bun.SocketHandler<undefined> = {
      open(opened) {
        open = opened;
        send(opened);
      },
      drain: send,
      data(_, bytes) {
        // The runtime may use the bytes again.
        chunks.push(Uint8Array.from(bytes));
        size += bytes.length;
        if (size > OBSERVE_LINE_BYTES_MAX) fail("its answer is too long", "too-large");
        else if (bytes.includes(NEWLINE))
          end(() => resolve(Buffer.concat(chunks).toString("utf8").split("\n")[0] ?? ""));
      },
      error: (_, error) => refuse(error),
      close: () => fail("it closed the connection"),
    };
    Bun.connect({ unix: path, socket }).catch(refuse);
  });
}
