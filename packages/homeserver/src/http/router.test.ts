import { expect, test } from "bun:test";
import { authed, open, Router } from "./router.ts";

const router = new Router([
  authed("GET", "/rooms/:roomId/state/:eventType/:stateKey", () => ({})),
  authed(["GET", "PUT"], "/rooms/:roomId/state/:eventType", () => ({})),
  authed("GET", "/pushrules/global/:kind", () => ({})),
  authed("GET", "/pushrules/:scope/special", () => ({})),
  open("GET", "/_matrix/client/versions", () => ({})),
]);
const params = (path: string): unknown => {
  const match = router.match("GET", path);
  return match.kind === "route" ? match.params : match.kind;
};

test("every version of the API resolves to the same route", () => {
  for (const version of ["r0", "v1", "v3"]) {
    expect(params(`/_matrix/client/${version}/rooms/!a:x/state/m.x`)).toEqual({
      roomId: "!a:x",
      eventType: "m.x",
    });
  }
  expect(params("/_matrix/client/v2/rooms/!a:x/state/m.x")).toBe("unknown");
});

test("decodes segments after the split, so a name may contain a slash", () => {
  expect(params("/_matrix/client/v3/rooms/%21a%3Ax/state/m.x/bureau%2Ffleet%2Fprod")).toEqual({
    roomId: "!a:x",
    eventType: "m.x",
    stateKey: "bureau/fleet/prod",
  });
});

test("an empty last segment is an empty parameter", () => {
  expect(params("/_matrix/client/v3/rooms/!a:x/state/m.x/")).toMatchObject({ stateKey: "" });
});

test("a literal without a route does not hide a parameter with one", () => {
  expect(params("/_matrix/client/v3/pushrules/global/special")).toEqual({ kind: "special" });
  expect(params("/_matrix/client/v3/pushrules/device/special")).toEqual({ scope: "device" });
});

test("distinguishes a wrong method from an unknown path", () => {
  expect(router.match("DELETE", "/_matrix/client/versions")).toEqual({
    kind: "wrong-method",
    allowed: ["GET"],
  });
  expect(router.match("GET", "/_matrix/client/nowhere").kind).toBe("unknown");
});

test("a path that is not UTF-8 has its own error", () => {
  expect(() => router.match("GET", "/_matrix/client/v3/rooms/%ff/state/m.x")).toThrow(URIError);
});

test("two routes for one path fail at the start", () => {
  const twice = [open("GET", "/same/:a", () => ({})), open("GET", "/same/:b", () => ({}))];
  expect(() => new Router(twice)).toThrow("two routes");
});
