import { afterAll, beforeAll, expect, test } from "bun:test";
import { eventTypes } from "@bureau/schema/events";
import { stateKeyOf, userIdOf } from "@bureau/schema/refs";
import { Decrypter, generateHybridIdentity, generateIdentity, identityToRecipient } from "age-encryption";
import { type SmallFleet, startSmallFleet } from "../testing/small-fleet.ts";
import {
  type CredentialOwner,
  listCredentials,
  provisionKeys,
  revokeCredentials,
  revokeKey,
  rotateKey,
  rotateToken,
} from "./credential-keys.ts";

const SECRET = "canary-7f3a";
let fleet: SmallFleet;
beforeAll(async () => {
  fleet = await startSmallFleet();
});
afterAll(async () => await fleet[Symbol.asyncDispose]());

const ownerOf = (name: string): CredentialOwner => ({
  ...fleet.editor,
  machine: fleet.machine,
  principal: fleet.principal(name),
});
const keyOf = (name: string) => stateKeyOf(userIdOf(fleet.principal(name), fleet.server));
const keysOf = async (name: string): Promise<Record<string, { ciphertext?: string }>> => {
  const event = await fleet.session.getState(fleet.place.room, eventTypes.credentialKeys, keyOf(name));
  return (event as { keys: Record<string, { ciphertext?: string }> }).keys;
};

async function open(ciphertext: string | undefined, identity: string): Promise<unknown> {
  const decrypter = new Decrypter();
  decrypter.addIdentity(identity);
  return JSON.parse(await decrypter.decrypt(Buffer.from(ciphertext ?? "", "base64"), "text"));
}

test("a key is sealed alone, to the machine and to each escrow key, and its value is in no event", async () => {
  await fleet.create("a");
  const escrow = [await generateIdentity(), await generateHybridIdentity()];
  const recipients = await Promise.all(escrow.map((identity) => identityToRecipient(identity)));
  expect(recipients[1]).toStartWith("age1pq1");
  const bundle = await fleet.session.getState(fleet.place.room, eventTypes.credentials, keyOf("a"));
  await provisionKeys(ownerOf("a"), { API_KEY: SECRET }, recipients);
  const { API_KEY: sealed } = await keysOf("a");
  for (const identity of [fleet.identity, ...escrow])
    expect(await open(sealed?.ciphertext, identity)).toEqual({ API_KEY: SECRET });
  // What other implementations read is unchanged.
  expect(await fleet.session.getState(fleet.place.room, eventTypes.credentials, keyOf("a"))).toEqual(bundle);
  expect(JSON.stringify(await fleet.session.getRoomState(fleet.place.room))).not.toContain(SECRET);
  const listed = JSON.stringify(await listCredentials(fleet.session, fleet.machine));
  expect(listed).toContain("API_KEY");
  expect(listed).not.toContain(SECRET);
});

test("keys of two operators who provision at the same moment are both kept", async () => {
  await fleet.create("b");
  await Promise.all([
    provisionKeys(ownerOf("b"), { ONE: "1" }, []),
    provisionKeys(ownerOf("b"), { TWO: "2" }, []),
  ]);
  expect(Object.keys(await keysOf("b")).sort()).toEqual(["ONE", "TWO"]);
});

test("an agent that is created again with a credential keeps its others", async () => {
  await fleet.create("c");
  await provisionKeys(ownerOf("c"), { ONE: "1" }, []);
  await fleet.create("c", { credentials: { TWO: "2" } });
  expect(Object.keys(await keysOf("c")).sort()).toEqual(["ONE", "TWO"]);
});

test("a bundle that is sealed again replaces single keys of the same names", async () => {
  await fleet.create("d");
  await provisionKeys(ownerOf("d"), { ONE: "old", TWO: "2" }, []);
  await rotateToken(ownerOf("d"), fleet.accountKeys, []);
  await fleet.create("d", { credentials: { ONE: "new" }, newCredentials: true });
  expect(Object.keys(await keysOf("d"))).toEqual(["TWO"]);
});

test("a key is rotated and revoked; a revoked one cannot be rotated", async () => {
  await fleet.create("e", { credentials: { IN_BUNDLE: "1" } });
  await rotateKey(ownerOf("e"), "IN_BUNDLE", "2", []);
  expect(await open((await keysOf("e"))["IN_BUNDLE"]?.ciphertext, fleet.identity)).toEqual({
    IN_BUNDLE: "2",
  });
  await revokeKey(ownerOf("e"), "IN_BUNDLE");
  expect((await keysOf("e"))["IN_BUNDLE"]?.ciphertext).toBeUndefined();
  await expect(rotateKey(ownerOf("e"), "IN_BUNDLE", "3", [])).rejects.toThrow(
    'has no credential "IN_BUNDLE"',
  );
});

test("revoking all clears the bundle, publishes it and ends the sessions", async () => {
  await fleet.create("f");
  const { MATRIX_TOKEN: token } = (await open(
    (
      (await fleet.session.getState(fleet.place.room, eventTypes.credentials, keyOf("f"))) as {
        ciphertext: string;
      }
    ).ciphertext,
    fleet.identity,
  )) as { MATRIX_TOKEN: string };
  const asked = () =>
    fetch(`${fleet.accountKeys.homeserver}/_matrix/client/v3/account/whoami`, {
      headers: { authorization: `Bearer ${token}` },
    });
  expect((await asked()).status).toBe(200);
  expect(await revokeCredentials(ownerOf("f"), "stolen", fleet.accountKeys)).toBe(true);
  expect((await asked()).status).toBe(401);
  expect(await fleet.session.getState(fleet.place.room, eventTypes.credentials, keyOf("f"))).toEqual({});
  await expect(provisionKeys(ownerOf("f"), { A: "1" }, [])).rejects.toThrow("has no credentials");
});

test("refuses names, values and escrow keys that cannot be used, and writes nothing", async () => {
  await fleet.create("g");
  const provision = (values: Record<string, string>, escrow: string[] = []) =>
    provisionKeys(ownerOf("g"), values, escrow);
  await expect(provision({ MATRIX_TOKEN: "x" })).rejects.toThrow("Matrix session");
  await expect(provision({ "../x": "x" })).rejects.toThrow("no name of a credential");
  for (const name of ["constructor", "prototype"])
    await expect(provision({ [name]: "x" })).rejects.toThrow(`may not be called "${name}"`);
  await expect(provision({ A: "" })).rejects.toThrow("is empty");
  await expect(provision({ A: "x".repeat(16_385) })).rejects.toThrow("more than 16384");
  await expect(provision({ A: "x" }, ["age1nonsense"])).rejects.toThrow("escrow key");
  const identity = await generateIdentity();
  const refused = provision({ A: "x" }, [identity]);
  await expect(refused).rejects.toThrow("does not begin with age1");
  await refused.catch((error: unknown) => expect(String(error)).not.toContain(identity));
  expect(
    await fleet.session.getState(fleet.place.room, eventTypes.credentialKeys, keyOf("g")),
  ).toBeUndefined();
});

test("a machine, which has the level 50, cannot provision", async () => {
  await fleet.create("h");
  const owner = { ...ownerOf("h"), session: fleet.own };
  await expect(provisionKeys(owner, { A: "1" }, [])).rejects.toThrow();
});
