import { expect, test } from "bun:test";
import type { StateEvent } from "@bureau/matrix/event";
import { type RoomView, viewEvents } from "@bureau/matrix/room-state";
import { machinesIn, servicesIn } from "./fleet-directory.ts";

const machine = "@bureau/fleet/f/machine/m:s";
const entity = (name: string): string => `bureau/fleet/f/${name}:s`;
const event = (type: string, stateKey: string, sender: string, content: object): StateEvent => ({
  type,
  stateKey,
  sender,
  content: { ...content },
  eventId: "",
  sentAt: 0,
});
/** An entry that the service itself wrote. */
const entry = (name: string, content: object): StateEvent =>
  event("m.bureau.service", entity(name), `@${entity(name)}`, content);
const member = (user: string, membership: string): StateEvent =>
  event("m.room.member", user, user, { membership });

function room(...events: StateEvent[]): RoomView {
  return viewEvents(events, () => {});
}

test("lists announced services by name, and machines with their services", () => {
  const view = room(
    entry("service/web", { principal: `@${entity("service/web")}`, machine, endpoints: { http: "w.sock" } }),
    entry("service/a", { principal: `@${entity("service/a")}`, machine, capabilities: ["x"] }),
    member(machine, "join"),
    member("@bureau/fleet/f/machine/gone:s", "leave"),
    member("@alice:s", "join"),
  );
  expect(servicesIn(view).map(({ name }) => name)).toEqual(["service/a", "service/web"]);
  expect(servicesIn(view)[1]).toMatchObject({ machine, capabilities: [], endpoints: { http: "w.sock" } });
  expect(machinesIn(view)).toMatchObject([
    { user_id: machine, name: "bureau/fleet/f/machine/m", services: ["service/a", "service/web"] },
  ]);
});

test("leaves out entries that are withdrawn, malformed, or about another principal", () => {
  const view = room(
    entry("service/withdrawn", { principal: "", machine: "", endpoints: {} }),
    entry("service/cleared", {}),
    entry("service/malformed", { principal: 7 }),
    entry("service/thief", { principal: `@${entity("service/other")}`, machine }),
    event("m.bureau.service", entity("service/forged"), "@mallory:s", {
      principal: `@${entity("service/forged")}`,
      machine,
    }),
  );
  expect(servicesIn(view)).toEqual([]);
});
