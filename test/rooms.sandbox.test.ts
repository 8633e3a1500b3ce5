/** Principals join their rooms: the machine invites them, and the proxy accepts when it starts. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { aliasOf, parseUserId, rooms, serverOf } from "@bureau/schema/refs";
import { eventually, useBureau } from "@bureau/testkit/use-bureau";

setDefaultTimeout(120_000);

const running = useBureau();
type Created = { user_id: string };

test("an agent joins a room it was invited to, at its next start", async () => {
  const session = running().session();
  const create = (word: string) =>
    running().json<Created>("agent", "create", "guest", "--command", `echo ${word}; sleep 1000`);
  const user = parseUserId((await create("first")).user_id);
  const room = await session.createRoom({ name: "a room of its own", invite: [user] });
  expect(await session.joinedMembers(room)).not.toContain(user);
  await create("second");
  await eventually(async () => (await session.joinedMembers(room)).includes(user) || undefined);
});

test("a running service is in the rooms of services, and in no config room", async () => {
  const session = running().session();
  const { user_id: user } = await running().json<Created>(
    ...["agent", "create", "service/web", "--template", "bureau/template:service", "--command", "sleep 1000"],
  );
  const { machine } = await running().json<{ machine: { name: string; fleet: string } }>("status");
  const members = async (localpart: string): Promise<readonly string[]> => {
    const room = await session.resolveAlias(aliasOf(localpart as never, serverOf(session.userId)));
    return room === undefined ? [] : await session.joinedMembers(room);
  };
  const fleet = machine.fleet as Parameters<typeof rooms.fleetServices>[0];
  for (const place of [rooms.system("bureau" as never), rooms.fleetServices(fleet)])
    expect(await members(place)).toContain(user);
  expect(await members(machine.name)).not.toContain(user);
});

test("the credential file names the rooms of the namespace, for other programs", () => {
  const file = readFileSync(running().layout.credentialFile, "utf8");
  for (const name of ["SPACE", "SYSTEM", "TEMPLATE", "PIPELINE", "ARTIFACT", "DEV_TEAM"])
    expect(file).toMatch(new RegExp(`^MATRIX_${name}_ROOM=!`, "m"));
});

test("the machine answers an unknown command in its thread", async () => {
  const session = running().session();
  const { machine } = await running().json<{ machine: { name: string } }>("status");
  const room = await session.resolveAlias(aliasOf(machine.name as never, serverOf(session.userId)));
  if (room === undefined) throw new Error("there is no config room");
  const sent = await session.sendMessage(room, {
    msgtype: "m.bureau.command",
    body: "asks",
    command: "no.such.thing",
    request_id: "q1",
  });
  const answer = await eventually(async () => {
    const { chunk } = await session.messages(room, { limit: 20 });
    const contents = chunk.map(({ content }) => content as Record<string, unknown>);
    return contents.find(({ msgtype }) => msgtype === "m.bureau.command_result");
  });
  expect(answer).toMatchObject({
    status: "error",
    error: 'unknown command "no.such.thing"',
    request_id: "q1",
  });
  expect(answer["m.relates_to"]).toMatchObject({ rel_type: "m.thread", event_id: sent });
});
