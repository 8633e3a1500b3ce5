import { describe, expect, test } from "bun:test";
import type { Action } from "../resources/registry.ts";
import { actionKey, planSteps } from "./plan.ts";

const folder = (path: string): Action => ({ kind: "folder", path, owner: "a", group: "a", mode: 0o755 });
const start = (unit: string): Action => ({ kind: "start", unit });

describe("a plan", () => {
  test("performs each action once, for all checks that need it", () => {
    const steps = planSteps([
      { check: "one", actions: [{ kind: "accounts" }, folder("/a")] },
      { check: "two", actions: [{ kind: "accounts" }] },
    ]);
    expect(steps.map(({ action, checks }) => [action.kind, checks])).toEqual([
      ["accounts", ["one", "two"]],
      ["folder", ["one"]],
    ]);
  });

  test("creates owners before folders, keys before joining, and all before starts", () => {
    const kinds = planSteps([
      { check: "a", actions: [start("x.service"), { kind: "join" }, { kind: "seal-key" }] },
      { check: "b", actions: [{ kind: "reload" }, folder("/a"), { kind: "accounts" }] },
      { check: "c", actions: [{ kind: "file", path: "/f", text: "", mode: 0o644 }] },
    ]).map(({ action }) => action.kind);
    expect(kinds).toEqual(["file", "accounts", "folder", "reload", "seal-key", "join", "start"]);
  });

  test("keeps the order within a kind, so that parent folders come first", () => {
    const steps = planSteps([{ check: "a", actions: [folder("/a"), folder("/a/b"), folder("/a/b/c")] }]);
    expect(steps.map(({ action }) => "path" in action && action.path)).toEqual(["/a", "/a/b", "/a/b/c"]);
  });

  test("does not start a unit that it restarts", () => {
    const steps = planSteps([
      { check: "a", actions: [start("x.service"), start("y.service")] },
      { check: "b", actions: [{ kind: "restart", unit: "x.service" }] },
    ]);
    expect(steps.map(({ action }) => actionKey(action))).toEqual([
      actionKey({ kind: "restart", unit: "x.service" }),
      actionKey(start("y.service")),
    ]);
  });
});
