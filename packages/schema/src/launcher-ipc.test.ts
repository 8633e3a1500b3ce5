import { expect, test } from "bun:test";
import { launcherRequests, launcherResponses } from "./launcher-ipc.ts";
import { InputError, parse } from "./parse.ts";

const create = {
  principal: "agent/x",
  sandbox_spec: { command: null },
  digests: { spec: "a", payload: "b" },
};

test("every action has a request and a response", () => {
  expect(Object.keys(launcherRequests).sort()).toEqual(Object.keys(launcherResponses).sort());
});

test("a principal is a principal name, never a path that leaves its folder", () => {
  expect(parse(launcherRequests["create-sandbox"], create, "r").sandbox_spec.command).toEqual([]);
  for (const principal of ["", "x", "../x", "agent/../../etc", "agent/.x", "@agent/x:s", "agent/X", 5])
    expect(() => parse(launcherRequests["create-sandbox"], { ...create, principal }, "r")).toThrow(
      InputError,
    );
});

test("signals, times and line counts have bounds", () => {
  const refuses = (name: keyof typeof launcherRequests, fields: object): void =>
    expect(() => parse(launcherRequests[name], { principal: "agent/x", ...fields }, "r")).toThrow(InputError);
  for (const signal of [0, -1, 65, 1.5, "9"]) refuses("signal-sandbox", { signal });
  for (const timeout_ms of [-1, 600_001, Number.POSITIVE_INFINITY]) refuses("wait", { since: 0, timeout_ms });
  for (const lines of [0, 50_001]) refuses("capture-output", { lines });
  refuses("destroy-sandbox", { grace_ms: -1 });
});

test("a sandbox list tells running from exited", () => {
  const status = {
    principal: "agent/x",
    digests: create.digests,
    state: "exited",
    exit: { code: 3, description: "exited with 3", at: 1 },
    proxy: { state: "dead" },
    started_at: 1,
  };
  const parsed = parse(launcherResponses["list-sandboxes"], { revision: 1, sandboxes: [status] }, "r");
  expect(parsed.sandboxes[0]?.exit?.code).toBe(3);
  expect(() =>
    parse(launcherResponses.wait, { revision: 1, sandboxes: [{ ...status, state: "?" }] }, "r"),
  ).toThrow(InputError);
});
