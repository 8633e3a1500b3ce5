/** Who may set up a namespace and whom the setup invites, through the commands that a person types. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readOperatorSession } from "@bureau/os/session-file";
import { startEmbeddedHomeserver } from "@bureau/testkit/embedded-homeserver";
import { matrixSetup, Person } from "./contract/person.ts";

const first = new Person();
const other = new Person();
const tokenFile = join(first.dir, "token");
let homeserver: Awaited<ReturnType<typeof startEmbeddedHomeserver>>;

const setUp = (person: Person, ...more: string[]) =>
  person.run(...matrixSetup(homeserver.url, tokenFile, ...more));

beforeAll(async () => {
  homeserver = await startEmbeddedHomeserver();
  writeFileSync(tokenFile, homeserver.registrationToken);
  expect((await setUp(first)).code).toBe(0);
});
afterAll(async () => {
  await homeserver[Symbol.asyncDispose]();
  for (const { dir } of [first, other]) rmSync(dir, { recursive: true, force: true });
});

test("the credential file names the rooms, for other tools that read it", async () => {
  const { rooms } = JSON.parse((await setUp(first, "--json")).stdout) as { rooms: Record<string, string> };
  const written = readFileSync(first.credentials, "utf8");
  for (const [room, name] of [
    ["space", "SPACE"],
    ["system", "SYSTEM"],
    ["template", "TEMPLATE"],
    ["pipeline", "PIPELINE"],
    ["artifact", "ARTIFACT"],
    ["dev", "DEV_TEAM"],
  ] as const)
    expect(written).toContain(`\nMATRIX_${name}_ROOM=${rooms[room]}\n`);
});

test("tells another administrator who can allow a namespace, and then creates it", async () => {
  const second = ["--admin-user", "other", "--namespace", "second"];
  const refused = await setUp(other, ...second);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(/#second\/dev:\S+ is reserved: .+ \(403 M_FORBIDDEN\)/);
  expect(refused.stderr).toContain("--server-admin --admin-token-file PATH");
  const adminToken = join(first.dir, "admin-token");
  writeFileSync(adminToken, readOperatorSession(first.sessionFile).token);
  const made = await setUp(other, ...second, "--server-admin", "--admin-token-file", adminToken);
  expect(made.code).toBe(0);
});

test("does not treat another administrator's namespace as a stranger's", async () => {
  const { code, stderr } = await setUp(other, "--admin-user", "third");
  expect(code).toBe(1);
  expect(stderr).toContain('if another administrator set up "bureau", act as that one');
});

test("a name without an account is not invited, and nothing is created for it", async () => {
  const missing = `@alcie:${homeserver.serverName}`;
  for (const command of [
    ["matrix", "user", "invite", "alcie"],
    ["matrix", "room", "create", "team/build", "--invite", missing],
    ["fleet", "create", "bureau/fleet/prod", "--invite", missing],
  ]) {
    const { code, stderr } = await first.run(...command);
    expect([command, code]).toEqual([command, 1]);
    expect(stderr).toContain(`There is no account "${missing}"`);
    expect(stderr).toContain("matrix user create alcie");
  }
  expect((await setUp(first, "--invite", missing)).stderr).toContain(`There is no account "${missing}"`);
  expect(await first.json("fleet", "list")).toEqual({ fleets: [] });
});

test("an account without a profile is still an account", async () => {
  const { userId } = await first.session().whoami();
  expect(await first.session().isMissing(userId)).toBe(false);
});

describe("the session of a person", () => {
  const person = new Person();
  const passwordFile = join(person.dir, "password");
  const logIn = () =>
    person.run("login", "dora", "--homeserver", homeserver.url, "--password-file", passwordFile);
  beforeAll(async () => {
    writeFileSync(passwordFile, "correct horse battery staple");
    const made = await first.run("matrix", "user", "create", "dora", "--password-file", passwordFile);
    expect([made.code, made.stderr]).toEqual([0, expect.any(String)]);
  });
  afterAll(() => rmSync(person.dir, { recursive: true, force: true }));

  test("whoami says its user, its homeserver, its file, and whether it is valid", async () => {
    expect((await logIn()).code).toBe(0);
    expect(statSync(person.sessionFile).mode & 0o777).toBe(0o600);
    const seen = {
      user_id: `@dora:${homeserver.serverName}`,
      homeserver: homeserver.url,
      session_file: person.sessionFile,
    };
    expect(await person.json("whoami")).toMatchObject({ ...seen, ok: true, accepted: true });
    await person.session().logout();
    const refused = await person.run("whoami", "--json");
    expect(refused.code).toBe(1);
    expect(JSON.parse(refused.stdout)).toMatchObject({ ...seen, ok: false, accepted: false });
    expect(refused.stderr).toContain(`login @dora:${homeserver.serverName} --homeserver ${homeserver.url}`);
    expect(await person.json("logout")).toMatchObject({ was_valid: false });
  });

  test("logout ends it at the homeserver, and removes its file", async () => {
    expect((await logIn()).code).toBe(0);
    const session = person.session();
    expect(await person.json("logout")).toMatchObject({ user_id: session.userId, was_valid: true });
    await expect(session.whoami()).rejects.toMatchObject({ code: "unauthorized" });
    expect(existsSync(person.sessionFile)).toBe(false);
    const again = await person.run("logout");
    expect(again.code).toBe(1);
    expect(again.stderr).toContain("login NAME --homeserver URL");
  });

  test("logout keeps the file of a session that it cannot end", async () => {
    writeFileSync(
      person.sessionFile,
      JSON.stringify({ homeserver: "http://127.0.0.1:9", user_id: "@dora:away", access_token: "t" }),
    );
    const { code, stderr } = await person.run("logout");
    expect([code, stderr]).toEqual([1, expect.stringContaining("cannot reach the homeserver")]);
    expect(existsSync(person.sessionFile)).toBe(true);
  });
});
