import { expect, test } from "bun:test";
import { silentLog } from "@bureau/os/testing/silent-log";
import { ProxyStartSchema } from "@bureau/schema/proxy-wire";
import { parseUserId } from "@bureau/schema/refs";
import * as v from "valibot";
import { acceptInvitations, roomsToJoin } from "./accept-invitations.ts";

const user = parseUserId("@bureau/fleet/test/agent/a:bureau.test");
const by = (sender: string, key: string = user) => ({
  invite_state: { events: [{ type: "m.room.name" }, { type: "m.room.member", state_key: key, sender }] },
});

test("accepts only invitations by users of its own homeserver", () => {
  const invite = {
    "!a:bureau.test": by("@admin:bureau.test"),
    "!b:bureau.test": by("@stranger:elsewhere.test"),
    "!c:bureau.test": by("@admin:bureau.test", "@other:bureau.test"),
    "!d:bureau.test": by("not a user"),
    "!e:bureau.test": {},
  };
  expect(roomsToJoin({ rooms: { invite } }, user)).toEqual(["!a:bureau.test"]);
  expect(roomsToJoin({}, user)).toEqual([]);
});

test("an unreachable homeserver, or an invalid response, neither delays nor throws", async () => {
  using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("<html>") });
  for (const url of [`http://127.0.0.1:${server.port}`, "http://127.0.0.1:1"]) {
    const config = v.parse(ProxyStartSchema, {
      principal: "agent/a",
      socket_path: "/s",
      admin_socket_path: "/a",
      matrix_homeserver_url: url,
      matrix_token: "t",
      matrix_user_id: user,
    });
    await acceptInvitations(config, { log: silentLog, signal: new AbortController().signal });
  }
});
