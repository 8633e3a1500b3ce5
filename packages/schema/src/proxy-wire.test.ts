import { expect, test } from "bun:test";
import { InputError, parse } from "./parse.ts";
import { AdminGrantsSchema, AdminServiceSchema, ProxyStartSchema } from "./proxy-wire.ts";

const start = { principal: "agent/x", socket_path: "/p", admin_socket_path: "/a" };

test("a proxy needs its principal and its sockets", () => {
  expect(parse(ProxyStartSchema, start, "s") as unknown).toEqual(start);
  for (const key of Object.keys(start))
    expect(() => parse(ProxyStartSchema, { ...start, [key]: undefined }, "s")).toThrow(InputError);
});

test("a credential of the wrong type is refused without being quoted", () => {
  expect(() => parse(ProxyStartSchema, { ...start, credentials: { TOKEN: ["hunter2"] } }, "s")).toThrow(
    /^(?!.*hunter2).*TOKEN/,
  );
});

test("a service put by the administrator has an upstream", () => {
  expect(parse(AdminServiceSchema, { upstream_unix: "/s" }, "s").upstream_unix).toBe("/s");
  expect(() => parse(AdminServiceSchema, { strip_headers: null }, "s")).toThrow(InputError);
});

test("no grants may be written as null", () => {
  expect(parse(AdminGrantsSchema, null, "g")).toEqual([]);
});
