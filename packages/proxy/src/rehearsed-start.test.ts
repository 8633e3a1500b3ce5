import { expect, test } from "bun:test";
import { encodeCbor } from "@bureau/kit/encode-cbor";
import { rehearsedStart } from "./rehearsed-start.ts";

test("the rehearsed start has credentials, grants and an upstream, none of them real", () => {
  const start = encodeCbor({
    principal: "agent/rehearsal",
    socket_path: "/",
    admin_socket_path: "/",
    matrix_user_id: "@rehearsal:localhost",
    credentials: { NAME: "value" },
    grants: [{ actions: ["none"] }],
    services: { none: { upstream: "http://127.0.0.1", inject_headers: { Authorization: "NAME" } } },
  });
  expect(rehearsedStart).toBe(Buffer.from(start).toString("base64"));
});
