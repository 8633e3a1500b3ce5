/**
 * When its proxy starts, a principal joins the rooms it is invited to, as in the reference implementation: a program in a
 * sandbox may join rooms only with a grant. This runs once; the program accepts later invitations, if it has the grant.
 *
 * Only invitations by users of the principal's own homeserver are accepted: a foreign user must not put text before an
 * agent. A failure is logged and does not prevent the program's start.
 */
import type { Log } from "@bureau/kit/log";
import { egressTo } from "@bureau/os/egress";
import { parse } from "@bureau/schema/parse";
import type { ProxyStartSchema } from "@bureau/schema/proxy-wire";
import { parseUserId, serverOf, type UserId } from "@bureau/schema/refs";
import * as v from "valibot";
import { readJsonBody } from "./json-body.ts";
import { parseHomeserver } from "./upstream-url.ts";

/** For all of it (wire facts). */
const ACCEPT_MS_MAX = 30_000;
/** A start never waits for a flood of invitations. */
const INVITATIONS_MAX = 100;
const SYNC_BYTES_MAX = 4 << 20;

const none = { types: [] };
/** Returns only invitations. */
const FILTER = JSON.stringify({
  presence: none,
  account_data: none,
  room: { timeline: { ...none, limit: 1 }, state: none, ephemeral: none, account_data: none },
});

const InvitationsSchema = v.object({
  rooms: v.optional(
    v.object({
      invite: v.optional(
        v.record(
          v.string(),
          v.object({
            invite_state: v.optional(
              v.object({
                events: v.array(
                  v.object({
                    type: v.string(),
                    state_key: v.optional(v.string()),
                    sender: v.optional(v.string()),
                  }),
                ),
              }),
            ),
          }),
        ),
      ),
    }),
  ),
});
type Invitations = v.InferOutput<typeof InvitationsSchema>;

/** Never rejects. Ends after {@link ACCEPT_MS_MAX}, or when `signal` aborts. */
export async function acceptInvitations(
  config: v.InferOutput<typeof ProxyStartSchema>,
  { log, signal }: { readonly log: Log; readonly signal: AbortSignal },
): Promise<void> {
  const { matrix_homeserver_url: url, matrix_token: token, matrix_user_id: user } = config;
  if (url === undefined || token === undefined || user === undefined) return;
  const until = AbortSignal.any([signal, AbortSignal.timeout(ACCEPT_MS_MAX)]);
  const { base, options } = egressTo(parseHomeserver(url));
  const call = async (method: "GET" | "POST", path: string): Promise<Response> => {
    const response = await fetch(`${base}/_matrix/client/v3/${path}`, {
      method,
      signal: until,
      redirect: "manual",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      ...(method === "POST" ? { body: "{}" } : {}),
      ...options,
    });
    if (!response.ok) throw new Error(`the homeserver answered ${response.status}`);
    return response;
  };
  try {
    const query = new URLSearchParams({ timeout: "0", filter: FILTER });
    const answer = await readJsonBody(await call("GET", `sync?${query}`), SYNC_BYTES_MAX);
    for (const room of roomsToJoin(parse(InvitationsSchema, answer, "answer to sync"), user))
      await call("POST", `join/${encodeURIComponent(room)}`).then(
        () => log.info("room.invitation-accepted", "invitation accepted", { room }),
        (error: unknown) =>
          log.warn("room.invitation-failed", "cannot accept an invitation", { room, error }),
      );
  } catch (error) {
    if (!signal.aborted) log.warn("room.invitations-unread", "cannot look for invitations", { error });
  }
}

/** Pure. The rooms to which a user of the principal's own homeserver invites it. */
export function roomsToJoin({ rooms }: Invitations, user: UserId): string[] {
  const isLocal = (sender: string | undefined): boolean => {
    try {
      return sender !== undefined && serverOf(parseUserId(sender)) === serverOf(user);
    } catch {
      return false;
    }
  };
  return Object.entries(rooms?.invite ?? {})
    .filter(([, { invite_state: state }]) =>
      state?.events.some(
        ({ type, state_key: key, sender }) => type === "m.room.member" && key === user && isLocal(sender),
      ),
    )
    .map(([room]) => room)
    .slice(0, INVITATIONS_MAX);
}
