/** What a proxy tells its principal of the fleet's services, and its route to one that speaks HTTP. */
import { expect, test } from "bun:test";
import { sandboxPaths } from "@bureau/os/layout";
import { eventTypes } from "@bureau/schema/events";
import { insidePaths } from "@bureau/schema/inside-paths";
import {
  aliasOf,
  parseFleet,
  parseNamespace,
  parsePrincipalName,
  rooms,
  serverOf,
} from "@bureau/schema/refs";
import { eventually, useBureau } from "@bureau/testkit/use-bureau";

const running = useBureau();
const fleet = parseFleet("bureau/fleet/local");

test("a proxy lists the services that a grant names, and reaches those here that speak HTTP", async () => {
  const session = running().session();
  const server = serverOf(session.userId);
  const roomOf = async (localpart: Parameters<typeof aliasOf>[0]) => {
    const room = await session.resolveAlias(aliasOf(localpart, server));
    if (room === undefined) throw new Error(`no room ${localpart}`);
    return room;
  };
  const templates = await roomOf(rooms.template(parseNamespace("bureau")));
  await session.putState(templates, eventTypes.template, "web", {
    inherits: ["bureau/template:service"],
    command: [
      ...[
        "bureau-bridge",
        "--listen",
        `unix:${insidePaths.serviceSocket}`,
        "--connect",
        "tcp:127.0.0.1:8000",
        "--",
      ],
      ...["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1", "8000"],
    ],
  });
  await session.putState(templates, eventTypes.template, "curious", {
    inherits: ["bureau/template:agent"],
    authorization: { grants: [{ actions: ["service/discover"], targets: ["service/web"] }] },
    command: ["sleep", "1000"],
  });
  await session.putState(templates, eventTypes.template, "plain", {
    inherits: ["bureau/template:agent"],
    command: ["sleep", "1000"],
  });
  await running().json("agent", "create", "service/web", "--template", "bureau/template:web");
  await running().json("agent", "create", "curious", "--template", "bureau/template:curious");
  await running().json("agent", "create", "plain", "--template", "bureau/template:plain");
  const announce = async (name: string, endpoints: object): Promise<void> => {
    const key = `${fleet}/${name}:${server}`;
    const machine = `@${(await running().json<{ machine: { name: string } }>("status")).machine.name}:${server}`;
    const entry = { principal: `@${key}`, machine, endpoints, description: "pages" };
    await session.putState(await roomOf(rooms.fleetServices(fleet)), eventTypes.service, key, entry);
  };
  await announce("service/web", { http: "service.sock" });
  await announce("service/hidden", { http: "service.sock" });

  const ask = (name: string, path: string): Promise<Response> =>
    fetch(`http://localhost${path}`, {
      unix: sandboxPaths(running().layout, fleet, parsePrincipalName(name)).proxyLink,
    });
  const names = async (name: string): Promise<string> => {
    const entries = (await (await ask(name, "/v1/services")).json()) as { localpart: string }[];
    return entries.map(({ localpart }) => localpart).join();
  };
  await eventually(async () => ((await names("agent/curious")) === "service/web" ? true : undefined));
  expect(await names("agent/plain")).toBe("");
  await eventually(async () =>
    (await ask("agent/curious", "/http/service-web/")).status === 200 ? true : undefined,
  );
  expect((await ask("agent/plain", "/http/service-web/")).status).toBe(404);
  expect((await ask("agent/curious", "/http/service-hidden/")).status).toBe(404);

  // A withdrawn service is gone from the list, and so is the route.
  await session.putState(
    await roomOf(rooms.fleetServices(fleet)),
    eventTypes.service,
    `${fleet}/service/web:${server}`,
    {},
  );
  await eventually(async () => ((await names("agent/curious")) === "" ? true : undefined));
  await eventually(async () =>
    (await ask("agent/curious", "/http/service-web/")).status === 404 ? true : undefined,
  );
}, 120_000);
