/** A homeserver with a request rate limit: commands wait, show that they wait, and continue. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startEmbeddedHomeserver } from "@bureau/testkit/embedded-homeserver";
import { type HomeserverDoor, openHomeserverDoor } from "@bureau/testkit/homeserver-door";
import { Person } from "./contract/person.ts";

const person = new Person();
const tokenFile = join(person.dir, "token");
let homeserver: Awaited<ReturnType<typeof startEmbeddedHomeserver>>;
let door: HomeserverDoor;
/** Requests that are refused once, with the time to wait. */
const limits = new Map<string, number>();

beforeAll(async () => {
  homeserver = await startEmbeddedHomeserver();
  writeFileSync(tokenFile, homeserver.registrationToken);
  door = openHomeserverDoor(homeserver.url, ({ url }) => {
    const { pathname } = new URL(url);
    const retry_after_ms = limits.get(pathname);
    if (retry_after_ms === undefined) return undefined;
    limits.delete(pathname);
    return Response.json({ errcode: "M_LIMIT_EXCEEDED", retry_after_ms }, { status: 429 });
  });
});
afterAll(async () => {
  door[Symbol.dispose]();
  await homeserver[Symbol.asyncDispose]();
  rmSync(person.dir, { recursive: true, force: true });
});

const setUp = () =>
  person.run(...["matrix", "setup", "--homeserver", door.url], ...["--registration-token-file", tokenFile]);

test("shows the action of each wait of more than a second, and repeats no action", async () => {
  limits.set("/_matrix/client/v3/createRoom", 1_050);
  const { code, stderr } = await setUp();
  expect(stderr).toContain('waiting 2 s to create the room "bureau/');
  expect(code).toBe(0);
  const { writes, limited } = door.takeCount();
  expect(limited).toBe(1);
  // Registration takes one, each of the seven rooms one, the request to lift the limit one.
  expect(writes - limited).toBe(9);
});

test("a second set-up writes nothing except the query for the limit", async () => {
  door.takeCount();
  expect((await setUp()).code).toBe(0);
  expect(door.takeCount()).toMatchObject({ writes: 1, limited: 0 });
});

test("a rate limit beyond the maximum wait is an error with a hint, and the next try continues", async () => {
  limits.set("/_matrix/client/v3/createRoom", 3_600_000);
  const fleet = ["fleet", "create", "bureau/fleet/prod"];
  const refused = await person.run(...fleet);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(/Cannot create the room "bureau\/fleet\/prod": .+ \(429 M_LIMIT_EXCEEDED\)/);
  expect(refused.stderr).toContain("bureau matrix setup --admin-token-file");
  expect((await person.run(...fleet)).code).toBe(0);
});

test("refuses a token without server admin rights before it starts", async () => {
  const file = join(person.dir, "no-admin");
  writeFileSync(file, "invalid");
  door.takeCount();
  const refused = await person.run(
    ...["matrix", "setup", "--homeserver", door.url, "--admin-user", "second"],
    ...["--registration-token-file", tokenFile, "--admin-token-file", file],
  );
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain(`Cannot use --admin-token-file "${file}"`);
  expect(door.takeCount().writes).toBe(0);
});
