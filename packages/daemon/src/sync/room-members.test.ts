import { expect, test } from "bun:test";
import { silentLog } from "@bureau/os/testing/silent-log";
import { eventTypes } from "@bureau/schema/events";
import { parseRoomId, parseUserId, type RoomId, type UserId } from "@bureau/schema/refs";
import { TurnedClock } from "../testing/turned-clock.ts";
import { RoomMembers } from "./room-members.ts";

const room = parseRoomId("!room");
const ann = parseUserId("@ann:s");
const bob = parseUserId("@bob:s");

/** A homeserver whose answers the test gives one by one. */
function fixture() {
  const asked: { room: RoomId; answer: (users: UserId[]) => void; fail: (error: Error) => void }[] = [];
  let changes = 0;
  const clock = new TurnedClock();
  const members = new RoomMembers({
    session: {
      joinedMembers: (room) =>
        new Promise((answer, fail) => {
          asked.push({ room, answer, fail });
        }),
    },
    clock,
    random: () => 0,
    log: silentLog,
    onChange: () => changes++,
  });
  const membership = (user: UserId, membership: string): void =>
    members.note(
      {
        nextBatch: "1",
        joined: new Map([
          [
            room,
            {
              state: [],
              timeline: [
                {
                  type: eventTypes.member,
                  stateKey: user,
                  sender: user,
                  content: { membership },
                  sentAt: 0,
                  eventId: "$1",
                  redacts: undefined,
                },
              ],
              limited: false,
            },
          ],
        ]),
        invited: new Map(),
        left: [],
      },
      false,
    );
  const listed = (): string[] | undefined => {
    const known = members.of(room);
    return known === undefined ? undefined : [...known];
  };
  return { members, asked, membership, listed, clock, changes: () => changes };
}

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

test("asks once for a room that is wanted, and knows nothing before the answer", async () => {
  const { members, asked, listed, changes } = fixture();
  members.want(new Set([room]));
  members.want(new Set([room]));
  expect(asked).toHaveLength(1);
  expect(listed()).toBeUndefined();
  asked[0]?.answer([ann]);
  await turn();
  expect(listed()).toEqual([ann]);
  expect(changes()).toBe(1);
});

test("takes out a member that leaves at once, and asks again", async () => {
  const { members, asked, listed, membership } = fixture();
  members.want(new Set([room]));
  asked[0]?.answer([ann, bob]);
  await turn();
  membership(bob, "ban");
  expect(listed()).toEqual([ann]);
  expect(asked).toHaveLength(2);
});

test("does not use an answer from before a change", async () => {
  const { members, asked, listed, membership } = fixture();
  members.want(new Set([room]));
  membership(bob, "leave");
  asked[0]?.answer([ann, bob]);
  await turn();
  expect(listed()).toBeUndefined();
  asked[1]?.answer([ann]);
  await turn();
  expect(listed()).toEqual([ann]);
  expect(asked).toHaveLength(2);
});

test("forgets a room that is no longer wanted", async () => {
  const { members, asked, listed } = fixture();
  members.want(new Set([room]));
  asked[0]?.answer([ann]);
  await turn();
  members.want(new Set());
  expect(listed()).toBeUndefined();
});
