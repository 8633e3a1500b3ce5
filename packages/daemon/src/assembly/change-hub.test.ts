import { expect, test } from "bun:test";
import { parsePrincipalName } from "@bureau/schema/refs";
import { ChangeHub } from "./change-hub.ts";

const agent = parsePrincipalName("agent/a");

test("emit calls every listener of a topic before it returns, in the order of subscription", () => {
  const hub = new ChangeHub();
  const seen: string[] = [];
  hub.on("sandbox.removing", (name) => seen.push(`first ${name}`));
  hub.on("sandbox.removing", (name) => seen.push(`second ${name}`));
  hub.on("sandbox.gone", () => seen.push("gone"));
  hub.emit("sandbox.removing", agent);
  expect(seen).toEqual(["first agent/a", "second agent/a"]);
});

test("a disposed listener is not called again", () => {
  const hub = new ChangeHub();
  let calls = 0;
  const subscription = hub.on("health.changed", () => calls++);
  hub.emit("health.changed");
  subscription[Symbol.dispose]();
  hub.emit("health.changed");
  expect(calls).toBe(1);
});

test("next resolves with the first change after the call", async () => {
  const hub = new ChangeHub();
  hub.emit("connection.changed", { kind: "starting" });
  const next = hub.next("connection.changed");
  hub.emit("connection.changed", { kind: "online" });
  hub.emit("connection.changed", { kind: "disconnected" });
  expect(await next).toEqual({ kind: "online" });
});

test("a listener that subscribes during a change is not called for that change", () => {
  const hub = new ChangeHub();
  let calls = 0;
  hub.on("sandbox.gone", () => void hub.on("sandbox.gone", () => calls++));
  hub.emit("sandbox.gone");
  expect(calls).toBe(0);
});
