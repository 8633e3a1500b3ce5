/** An agent floods every room it may write to while other agents are created and destroyed. */
import { expect, test } from "bun:test";
import { login } from "@bureau/matrix/auth";
import { MatrixSession } from "@bureau/matrix/session";
import { egressFetch } from "@bureau/os/egress";
import { eventTypes } from "@bureau/schema/events";
import { namespaceOf, parseMachine, parsePrincipal, parseUserId, rooms } from "@bureau/schema/refs";
import { eventually, useBureau } from "@bureau/testkit/use-bureau";
import { configPlace, readAssignments } from "../packages/control/src/machines/machine-config.ts";
import { principalPassword } from "../packages/control/src/principals/administrator.ts";
import { roomOf } from "../packages/control/src/rooms/places.ts";
import { readCredentials } from "../packages/instance/src/credential-file.ts";

const bureau = useBureau();

type Agent = { readonly name: string; readonly user_id: string; readonly state: string };
type Status = { readonly machine: { readonly name: string }; readonly principals: readonly Agent[] };

const create = (name: string): Promise<Agent> =>
  bureau().json<Agent>("agent", "create", name, "--command", "exec sleep 1000");

/** The account of an agent, with its rights at the homeserver. */
async function sessionOf(agent: Agent): Promise<MatrixSession> {
  const { homeserver } = bureau().session();
  const token = readCredentials(bureau().layout.credentialFile)?.registrationToken ?? "";
  const user = parseUserId(agent.user_id);
  const principal = parsePrincipal(user.slice(1, user.indexOf(":")));
  const password = principalPassword(principal, token);
  return new MatrixSession({
    fetch: egressFetch,
    homeserver,
    ...(await login({ fetch: egressFetch, homeserver, user: principal, password })),
  });
}

test("creates and destroys agents as usual, and no destroyed agent returns", async () => {
  const operator = bureau().session();
  const own = await sessionOf(await create("noisy"));
  const machine = parseMachine((await bureau().json<Status>("status")).machine.name);
  const lobby = await roomOf(operator, rooms.lobby(namespaceOf(machine)));
  const place = await configPlace(operator, machine);

  await expect(own.getRoomState(place.room)).rejects.toMatchObject({ code: "forbidden" });
  const stop = new AbortController();
  let written = 0;
  const write = async (lane: number): Promise<void> => {
    for (let count = 0; !stop.signal.aborted; count++) {
      const body = `${lane} ${count} ${"x".repeat(4_000)}`;
      const { signal } = stop;
      await own.sendMessage(lobby, { msgtype: "m.text", body }, { signal }).then(
        () => written++,
        () => {},
      );
      await own
        .putState(lobby, eventTypes.temporalGrant, `${lane}-${count}`, { body }, signal)
        .catch(() => {});
    }
  };
  const flood = Promise.all([0, 1, 2, 3].map(write));
  try {
    const names = ["f0", "f1", "f2", "f3", "f4", "f5"];
    const made = await Promise.all(names.map(create));
    expect(made.map(({ state }) => state)).toEqual(names.map(() => "running"));
    const destroyed = names.slice(0, 3);
    await Promise.all(destroyed.map((name) => bureau().json("agent", "destroy", name)));
    expect(written).toBeGreaterThan(10);

    const left = ["agent/f3", "agent/f4", "agent/f5", "agent/greeter", "agent/noisy"];
    const assigned = (await readAssignments(operator, place)).assignments
      .map(({ principal }) => principal.slice(principal.indexOf("/agent/") + 1, principal.indexOf(":")))
      .sort();
    expect(assigned).toEqual(left);
    await eventually(async () => {
      const { principals } = await bureau().json<Status>("status");
      const running = principals.filter(({ state }) => state === "running").map(({ name }) => name);
      return running.sort().join() === left.join() ? true : undefined;
    });
  } finally {
    stop.abort();
    await flood;
  }
}, 120_000);
