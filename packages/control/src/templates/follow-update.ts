/**
 * Follows a change of a template through the fleet: reads what daemons report in their config rooms about the principals
 * that it touches, until each is ready or has failed. Works for every machine whose config room we may read.
 */
import type { Clock } from "@bureau/kit/clock";
import { waitFor } from "@bureau/kit/wait-for";
import type { MatrixSession } from "@bureau/matrix/session";
import type { RoomId } from "@bureau/schema/refs";
import * as v from "valibot";
import { unlessAway } from "../unless-away.ts";
import type { Touched } from "./template-impact.ts";
import { Message, type Outcome, outcomeOf } from "./update-outcome.ts";

/** Messages read of one room at a time; the next read finds later ones. */
const MESSAGES_MAX = 200;

/** Whether daemons report an outcome: a start condition or `auto_start` may keep a principal from running. */
export const isFollowed = ({ effect, assignment }: Touched): boolean =>
  (effect === "restart" || effect === "payload" || effect === "check") &&
  assignment.start_condition === undefined;

/** The last event of each room at one moment. */
export type Marks = ReadonlyMap<RoomId, string | undefined>;

export async function markRooms(session: MatrixSession, touched: readonly Touched[]): Promise<Marks> {
  const rooms = new Set(touched.map(({ place }) => place.room));
  const marks = await Promise.all(
    [...rooms].map(async (room) => [room, (await read(session, room, 1))[0]?.event_id] as const),
  );
  return new Map(marks);
}

/**
 * The outcome of each principal, from messages after `marks`. Resolves when every principal has one, or after `timeoutMs`.
 * Never throws because the homeserver is away.
 */
export async function followUpdate(
  session: Pick<MatrixSession, "messages">,
  touched: readonly Touched[],
  marks: Marks,
  options: {
    readonly timeoutMs: number;
    readonly clock: Clock;
    readonly onProgress: (done: number) => void;
    /** Whether the change that is followed is still the newest. */
    readonly stands: () => Promise<boolean>;
  },
): Promise<ReadonlyMap<Touched, Outcome>> {
  let outcomes = new Map(touched.map((one): [Touched, Outcome] => [one, { outcome: "pending" }]));
  const look = async (): Promise<true | undefined> => {
    // Read before the messages: reports of this change come before those of the next.
    const stands = await options.stands();
    const said = new Map<RoomId, Message[]>();
    for (const [room, mark] of marks) said.set(room, await since(session, room, mark));
    outcomes = new Map(touched.map((one) => [one, outcomeOf(one, said.get(one.place.room) ?? [])]));
    if (!stands) for (const [one, outcome] of outcomes) outcomes.set(one, superseded(outcome));
    const done = [...outcomes.values()].filter(({ outcome }) => outcome !== "pending").length;
    options.onProgress(done);
    return done === touched.length ? true : undefined;
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
