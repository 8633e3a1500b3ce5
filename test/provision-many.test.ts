/** Provisioning in a fleet of any size. Real accounts, rooms and homeserver. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { provisionMachine } from "@bureau/control/machines/provision";
import { dropMachineLevels } from "@bureau/control/rooms/machine-levels";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { MatrixError } from "@bureau/matrix/matrix-error";
import { changePowerLevels } from "@bureau/matrix/power-levels";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, type PowerLevels } from "@bureau/schema/events";
import {
  aliasOf,
  parseEventId,
  parseMachine,
  parseNamespace,
  parseRoomId,
  rooms,
  serverOf,
} from "@bureau/schema/refs";
import { startEmbeddedHomeserver } from "@bureau/testkit/embedded-homeserver";
import { SimulatedFleet } from "../bench/simulated-fleet.ts";

setDefaultTimeout(120_000);

const many = (count: number, level = 50): Record<string, number> =>
  Object.fromEntries(
    Array.from({ length: count }, (_, index) => [`@bureau/fleet/prod/machine/m${index}:bureau.local`, level]),
  );
const newMachine = parseMachine("bureau/fleet/prod/machine/new");

describe("provisioning", () => {
  test("works beside a thousand machines that an earlier version named in the levels of shared rooms", async () => {
    await using homeserver = await startEmbeddedHomeserver();
    const { admin: session } = await SimulatedFleet.open(homeserver);
    const room = await session.resolveAlias(
      aliasOf(rooms.system(parseNamespace("bureau")), serverOf(session.userId)),
    );
    if (room === undefined) throw new Error("no system room");
    const levelsNow = async (): Promise<PowerLevels> =>
      (await session.getState(room, eventTypes.powerLevels, "")) as PowerLevels;
    const before = await levelsNow();
    const operator = { "@operator:bureau.local": 50 };
    await changePowerLevels(
      session,
      room,
      { users: { ...many(1_150), ...operator } },
      { clock: systemClock },
    );
    const provision = () =>
      provisionMachine({
        session,
        registrationToken: homeserver.registrationToken,
        homeserver: homeserver.url,
        machine: newMachine,
      });
    expect((await provision()).account).toBe("created");
    expect(await levelsNow()).toEqual({ ...before, users: { ...before.users, ...operator } });
  });

  test("that fails says that the same command completes it, and it does", async () => {
    await using homeserver = await startEmbeddedHomeserver();
    const { admin: session } = await SimulatedFleet.open(homeserver);
    const failing = Object.create(session, {
      server: { value: session.server },
      homeserver: { value: session.homeserver },
      userId: { value: session.userId },
    }) as MatrixSession;
    let isRefusing = true;
    for (const name of Object.getOwnPropertyNames(
      Object.getPrototypeOf(session),
    ) as (keyof MatrixSession)[]) {
      if (["constructor", "homeserver"].includes(name)) continue;
      const act = (...given: never[]): unknown => {
        if (name === "inviteUser" && isRefusing) throw new MatrixError("too-large", "the event is too large");
        return (session[name] as (...given: never[]) => unknown).apply(session, given);
      };
      Object.defineProperty(failing, name, { value: act });
    }
    let stored: unknown;
    const provision = () =>
      provisionMachine({
        session: failing,
        registrationToken: homeserver.registrationToken,
        homeserver: homeserver.url,
        machine: newMachine,
        store: {
          read: () => stored as never,
          write: (made) => {
            stored = made;
          },
          remove: () => {
            stored = undefined;
          },
        },
      });
    const error = await provision().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(BureauError);
    expect(String(error)).toContain(`"${newMachine}" has its account, but its rooms are not complete`);
    expect((error as BureauError).hint).toContain("the same command again");
    isRefusing = false;
    expect((await provision()).account).toBe("resumed");
  });
});

describe("levels of machines in a shared room", () => {
  const drop = async (users: Record<string, number>): Promise<PowerLevels | undefined> => {
    let written: PowerLevels | undefined;
    await dropMachineLevels(
      {
        getState: async () => ({ users, events: { "m.other": 7 }, unknown: true }),
        putState: async (_room, _type, _key, content) => {
          written = content as PowerLevels;
          return parseEventId("$1");
        },
      },
      parseRoomId("!r:s"),
    );
    return written;
  };

  test("stay while they take up less than half an event: a Go daemon invites services with them", async () => {
    expect(await drop(many(300))).toBeUndefined();
  });

  test("go when they do not, and every other user and field stays", async () => {
    const others = { "@admin:s": 100, "@operator:s": 50, "@bureau/fleet/prod/agent/a:s": 50 };
    const raised = { "@bureau/fleet/prod/machine/raised:s": 60 };
    expect(await drop({ ...many(900), ...others, ...raised })).toEqual({
      users: { ...others, ...raised },
      events: { "m.other": 7 },
      unknown: true,
    } as never);
  });
});
