/** The directory service in a real sandbox, asked over its socket. */
import { expect, test } from "bun:test";
import { callCbor } from "@bureau/os/cbor-client";
import { sandboxPaths } from "@bureau/os/layout";
import { directoryResponses } from "@bureau/schema/directory-wire";
import { eventTypes } from "@bureau/schema/events";
import { aliasOf, parseFleet, parsePrincipalName, rooms, serverOf } from "@bureau/schema/refs";
import { eventually, useBureau } from "@bureau/testkit/use-bureau";
import { boolean, looseObject } from "valibot";

const running = useBureau();
const fleet = parseFleet("bureau/fleet/local");
const socket = (): string =>
  sandboxPaths(running().layout, fleet, parsePrincipalName("service/directory")).serviceSocket;
const peer = { peer: "directory service" };

const services = async (capability?: string): Promise<string[]> => {
  const request = { action: "services", ...(capability === undefined ? {} : { capability }) };
  const answer = await callCbor(socket(), request, directoryResponses.services, peer);
  return answer.services.map(({ name }) => name);
};
const machines = () => callCbor(socket(), { action: "machines" }, directoryResponses.machines, peer);
const health = () => callCbor(socket(), { action: "health" }, looseObject({ healthy: boolean() }), peer);

/** Waits until the directory lists exactly these services. */
const listed = (...names: string[]): Promise<true> =>
  eventually(
    async () => {
      const found = await services().catch(() => []);
      return found.join() === names.join() ? true : undefined;
    },
    { describe: async () => (await running().run("agent", "logs", "service/directory")).stdout },
  );

test("announces itself, follows what others announce, and withdraws when it stops", async () => {
  const created = await running().json<{ state: string }>(
    ...["agent", "create", "service/directory", "--template", "bureau/template:directory"],
  );
  expect(created.state).toBe("running");
  await listed("service/directory");
  expect(await health()).toEqual({ healthy: true });
  const [machine] = (await machines()).machines;
  expect(machine).toMatchObject({ services: ["service/directory"] });
  expect(machine?.name).toStartWith(`${fleet}/machine/`);

  const session = running().session();
  const server = serverOf(session.userId);
  const room = await session.resolveAlias(aliasOf(rooms.fleetServices(fleet), server));
  if (room === undefined) throw new Error("the fleet has no service room");
  const key = `${fleet}/service/forge:${server}`;
  const entry = { principal: `@${key}`, machine: machine?.user_id, capabilities: ["git"], endpoints: {} };
  await session.putState(room, eventTypes.service, key, entry);
  await listed("service/directory", "service/forge");
  expect(await services("git")).toEqual(["service/forge"]);
  expect((await machines()).machines[0]?.services).toEqual(["service/directory", "service/forge"]);
  await session.putState(room, eventTypes.service, key, {});
  await listed("service/directory");

  await expect(callCbor(socket(), { action: "nonsense" }, looseObject({}), peer)).rejects.toThrow(
    'unknown action "nonsense"',
  );
  const own = `${fleet}/service/directory:${server}`;
  expect(await session.getState(room, eventTypes.service, own)).toMatchObject({ principal: `@${own}` });
  await running().json("agent", "destroy", "service/directory");
  expect(await session.getState(room, eventTypes.service, own)).toMatchObject({ principal: "" });
}, 120_000);
