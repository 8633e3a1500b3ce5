import { describe, expect, test } from "bun:test";
import { signRevocation, signToken } from "@bureau/kit/signed-message";
import type { StateEvent } from "@bureau/matrix/event";
import { viewEvents } from "@bureau/matrix/room-state";
import type { ActionContext } from "@bureau/os/cbor-server";
import { ed25519Key, newEd25519Key } from "@bureau/os/ed25519";
import { parseRoomId, parseUserId } from "@bureau/schema/refs";
import { object, string } from "valibot";
import { TokenGate } from "./token-gate.ts";

const machine = parseUserId("@b/fleet/p/machine/m:s");
const systemRoom = parseRoomId("!system");
const context = {} as ActionContext;

class World {
  key = ed25519Key(newEd25519Key());
  now = 1_000_000;
  sender: string = machine;
  names: string = machine;
  readonly gate = new TokenGate({
    role: "ticket",
    machine,
    systemRoom,
    clock: { now: () => this.now, monotonic: () => this.now, sleep: async () => {} },
    states: {
      revision: 0,
      keeps: () => true,
      joinedRooms: () => [systemRoom],
      room: (id) => (id === systemRoom ? viewEvents([this.#event()], () => {}) : undefined),
    },
  });
  readonly create = this.gate.granted(
    "ticket/create",
    object({ title: string() }),
    async ({ title }, caller) => {
      caller.require("ticket/close", "agent/a");
      return { title, by: caller.user };
    },
  );

  #event(): StateEvent {
    return {
      type: "m.bureau.token_signing_key",
      stateKey: machine.slice(1),
      sender: this.sender,
      content: { public_key: Buffer.from(this.key.publicKey).toString("hex"), machine: this.names },
      eventId: "$",
      sentAt: 0,
    };
  }

  token(changes: object = {}, key = this.key): Uint8Array {
    const token = {
      subject: parseUserId("@b/fleet/p/agent/a:s"),
      machine,
      audience: "ticket",
      grants: [{ actions: ["ticket/**"], targets: ["agent/a"] }],
      id: "11".repeat(16),
      issuedAt: 1_000,
      expiresAt: 1_300,
    };
    return signToken({ ...token, ...changes }, key.sign);
  }

  async call(token: unknown, fields: object = { title: "x" }): Promise<unknown> {
    try {
      return await this.create.run({ ...fields, token } as never, context);
    } catch (error) {
      return error instanceof Error ? error.message : error;
    }
  }
}

describe("an action that needs a grant", () => {
  test("is done for a caller whose token has it", async () => {
    const world = new World();
    expect(await world.call(world.token())).toEqual({ title: "x", by: "@b/fleet/p/agent/a:s" });
  });

  test("is refused without a token, the grant, or the grant on the target", async () => {
    const world = new World();
    expect(await world.call(undefined)).toBe("authentication required: missing token field");
    expect(await world.call(world.token({ grants: [] }))).toBe("access denied: no grant for ticket/create");
    const grants = [{ actions: ["ticket/**"], targets: ["agent/b"] }];
    expect(await world.call(world.token({ grants }))).toBe(
      'access denied: no grant for ticket/close on "agent/a"',
    );
  });

  test("checks the token before the fields: a stranger learns nothing of them", async () => {
    const world = new World();
    expect(await world.call(undefined, {})).toContain("authentication required");
    expect(await world.call(world.token(), {})).toContain("title");
  });

  test("is refused for tokens of other machines, and of other roles", async () => {
    const world = new World();
    const elsewhere = parseUserId("@b/fleet/p/machine/other:s");
    expect(await world.call(world.token({ machine: elsewhere }))).toBe("authentication failed");
    expect(await world.call(world.token({}, ed25519Key(newEd25519Key())))).toBe("authentication failed");
    expect(await world.call(world.token({ audience: "fleet" }))).toBe("authentication failed");
  });
});

describe("a token that was accepted before", () => {
  test("is refused once it is expired, and once it is revoked", async () => {
    const world = new World();
    const token = world.token();
    await world.call(token);
    world.now = 1_300_000;
    expect(await world.call(token)).toBe("authentication failed: token expired");
    world.now = 1_000_000;
    const entries = [{ id: "11".repeat(16), expiresAt: 1_300 }];
    const revocation = signRevocation(entries, 1_000, world.key.sign);
    await world.gate.revokeTokens.run({ revocation } as never, context);
    expect(await world.call(token)).toBe("authentication failed: token revoked");
  });

  test("lends its signature to no other content", async () => {
    const world = new World();
    const token = world.token();
    await world.call(token);
    const forged = Uint8Array.from(world.token({ id: "22".repeat(16) }));
    forged.set(token.subarray(-64), forged.length - 64);
    expect(await world.call(forged)).toBe("authentication failed");
  });

  test("is refused once the machine has another key", async () => {
    const world = new World();
    const token = world.token();
    await world.call(token);
    world.key = ed25519Key(newEd25519Key());
    expect(await world.call(token)).toBe("authentication failed");
    expect(await world.call(world.token())).toMatchObject({ title: "x" });
  });
});

test("accepts a key only from the machine itself", async () => {
  const world = new World();
  const token = world.token();
  world.sender = "@mallory:s";
  expect(await world.call(token)).toContain("has published no key");
  world.sender = machine;
  world.names = "@b/fleet/p/machine/other:s";
  expect(await world.call(token)).toContain("has published no key");
});

test("forgets revocations of tokens that have expired", async () => {
  const world = new World();
  const revoke = (id: string, expiresAt: number) =>
    world.gate.revokeTokens.run(
      { revocation: signRevocation([{ id, expiresAt }], 1_000, world.key.sign) } as never,
      context,
    );
  await revoke("11".repeat(16), 1_100);
  world.now = 1_200_000;
  await revoke("22".repeat(16), 1_300);
  // Still expired or not by its own end alone.
  expect(await world.call(world.token({ expiresAt: 1_300 }))).toMatchObject({ title: "x" });
});
