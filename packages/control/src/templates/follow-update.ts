/**
 * Following a change of a template through the fleet: what the machines' daemons say in their config rooms about the
 * principals it touches, until each runs well with it or does not. Works for every machine whose room we may read,
 * wherever it is.
 */
import type { Clock } from "@bureau/kit/clock";
import { waitFor } from "@bureau/kit/wait-for";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventMessages } from "@bureau/schema/events";
import type { RoomId } from "@bureau/schema/refs";
import * as v from "valibot";
import { unlessAway } from "../unless-away.ts";
import type { Touched } from "./template-impact.ts";

/** Messages of one room that are looked at: a machine with more to say than that is read again. */
const MESSAGES_MAX = 200;

export type Outcome = {
  /**
   * `pending`: nothing that settles it was said in time. `superseded`: the template was changed again meanwhile, so that
   * nothing will be said about this change.
   */
  readonly outcome: "healthy" | "updated" | "rolled-back" | "failed" | "pending" | "superseded";
  readonly reason?: string;
};

const Message = v.object({
  event_id: v.string(),
  sender: v.string(),
  content: v.looseObject({
    msgtype: v.optional(v.string()),
    principal: v.optional(v.string()),
    outcome: v.optional(v.string()),
    error: v.optional(v.string()),
    exit_code: v.optional(v.number()),
    exit_description: v.optional(v.string()),
  }),
});
type Message = v.InferOutput<typeof Message>;

/** Whether a change of it is said anything about: a condition or a switch may keep it from running at all. */
export const isFollowed = ({ effect, assignment }: Touched): boolean =>
  (effect === "restart" || effect === "payload" || effect === "check") &&
  assignment.start_condition === undefined;

/** The last event of each room by now. */
export type Marks = ReadonlyMap<RoomId, string | undefined>;

export async function markRooms(session: MatrixSession, touched: readonly Touched[]): Promise<Marks> {
  const rooms = new Set(touched.map(({ place }) => place.room));
  const marks = await Promise.all(
    [...rooms].map(async (room) => [room, (await read(session, room, 1))[0]?.event_id] as const),
  );
  return new Map(marks);
}

/**
 * What became of each by what was said after `marks`; resolves when all is settled, or after `timeoutMs`. Never throws
 * for a homeserver that is only away.
 */
export async function followUpdate(
  session: Pick<MatrixSession, "messages">,
  touched: readonly Touched[],
  marks: Marks,
  options: {
    readonly timeoutMs: number;
    readonly clock: Clock;
    readonly onProgress: (settled: number) => void;
    /** Whether the change that is followed is still the last one. */
    readonly stands: () => Promise<boolean>;
  },
): Promise<ReadonlyMap<Touched, Outcome>> {
  let outcomes = new Map(touched.map((one): [Touched, Outcome] => [one, { outcome: "pending" }]));
  const look = async (): Promise<true | undefined> => {
    // Asked before what was said is read: a word about this change comes before the next one.
    const stands = await options.stands();
    const said = new Map<RoomId, Message[]>();
    for (const [room, mark] of marks) said.set(room, await since(session, room, mark));
    outcomes = new Map(touched.map((one) => [one, outcomeOf(one, said.get(one.place.room) ?? [])]));
    if (!stands) for (const [one, outcome] of outcomes) outcomes.set(one, superseded(outcome));
    const settled = [...outcomes.values()].filter(({ outcome }) => outcome !== "pending").length;
    options.onProgress(settled);
    return settled === touched.length ? true : undefined;
  };
  await waitFor(() => unlessAway(look()), options);
  return outcomes;
}

const superseded = (outcome: Outcome): Outcome =>
  outcome.outcome === "pending"
    ? { outcome: "superseded", reason: "the template was changed again before it was proven" }
    : outcome;

async function since(
  session: Pick<MatrixSession, "messages">,
  room: RoomId,
  mark: string | undefined,
): Promise<Message[]> {
  const messages = await read(session, room, MESSAGES_MAX);
  const end = messages.findIndex(({ event_id }) => event_id === mark);
  return end < 0 ? messages : messages.slice(0, end);
}

/** Newest first. */
async function read(
  session: Pick<MatrixSession, "messages">,
  room: RoomId,
  limit: number,
): Promise<Message[]> {
  const { chunk } = await session.messages(room, { limit });
  return chunk.flatMap((event) => {
    const parsed = v.safeParse(Message, event);
    return parsed.success ? [parsed.output] : [];
  });
}

/** The newest message that settles it; else, with what last went wrong, that it is not settled. */
export function outcomeOf(one: Touched, said: readonly Message[]): Outcome {
  let trouble: string | undefined;
  for (const { content, sender } of said) {
    // Notices are the machine's own word: from anybody else they say nothing.
    if (content.principal !== one.principal || sender !== `@${one.place.key}`) continue;
    const settled = settledBy(one, content);
    if (settled !== undefined) return settled;
    trouble ??= content.error ?? content.exit_description;
  }
  return { outcome: "pending", ...(trouble === undefined ? {} : { reason: trouble }) };
}

function settledBy({ effect, assignment }: Touched, content: Message["content"]): Outcome | undefined {
  // Work that may end is never put on trial: that it runs, or has run, is all that will be said.
  const isWork = (assignment.restart_policy ?? "always") !== "always";
  const reason = content.error === undefined ? {} : { reason: content.error };
  switch (content.msgtype) {
    case eventMessages.principalSteady:
      return { outcome: "healthy" };
    case eventMessages.healthCheck:
      if (content.outcome === "rolled_back") return { outcome: "rolled-back", ...reason };
      return content.outcome === "rollback_failed" ? { outcome: "failed", ...reason } : undefined;
    case eventMessages.payloadUpdated:
      return effect === "payload" ? { outcome: "updated" } : undefined;
    case eventMessages.principalRestarted:
    case eventMessages.principalStarted:
      return isWork ? { outcome: "updated" } : undefined;
    default:
      return undefined;
  }
}
