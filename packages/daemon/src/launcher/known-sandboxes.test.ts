import { expect, test } from "bun:test";
import { BureauError } from "@bureau/kit/errors";
import type { LauncherRequest, SandboxList, SandboxStatus } from "@bureau/schema/launcher-ipc";
import { parsePrincipalName } from "@bureau/schema/refs";
import { KnownSandboxes } from "./known-sandboxes.ts";
import type { Launcher } from "./launcher-client.ts";

const sandbox = (name: string, pid = 1): SandboxStatus => ({
  principal: parsePrincipalName(`agent/${name}`),
  digests: { spec: "s", payload: "p" },
  state: "running",
  pid,
  proxy: { state: "running" },
  started_at: 1,
});

/** A launcher that gives these answers in turn, and what it was asked. */
function answering(...answers: readonly (SandboxList | Error)[]) {
  const asked: LauncherRequest<"list-sandboxes">[] = [];
  const left = [...answers];
  const call = async (_action: string, request: object): Promise<unknown> => {
    asked.push(request);
    const answer = left.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return { launcher: { call } as Launcher, asked };
}

test("requests changes since the list it has, and applies them", async () => {
  const { launcher, asked } = answering(
    { revision: 7, sandboxes: [sandbox("a"), sandbox("b")] },
    { revision: 9, since: 7, sandboxes: [sandbox("c")], removed: [parsePrincipalName("agent/a")] },
    { revision: 9, since: 9, sandboxes: [], removed: [] },
  );
  const known = new KnownSandboxes();
  await known.update(launcher);
  const before = known.all;
  await known.update(launcher);
  await known.update(launcher);
  expect(asked).toEqual([{}, { since: 7 }, { since: 9 }]);
  expect(known.all.map(({ principal }) => String(principal))).toEqual(["agent/b", "agent/c"]);
  expect(known.all[0]).toBe(before[1] as SandboxStatus);
});

test("takes the whole list of an older or a restarted launcher", async () => {
  const { launcher } = answering(
    { revision: 7, sandboxes: [sandbox("a"), sandbox("b")] },
    { revision: 3, sandboxes: [sandbox("b", 2)] },
  );
  const known = new KnownSandboxes();
  await known.update(launcher);
  await known.update(launcher);
  expect(known.all).toEqual([sandbox("b", 2)]);
  expect(known.revision).toBe(3);
});

test("keeps its list when the launcher is unreachable", async () => {
  const { launcher } = answering(
    { revision: 7, sandboxes: [sandbox("a")] },
    new BureauError("unavailable", "the launcher is down"),
  );
  const known = new KnownSandboxes();
  await known.update(launcher);
  await expect(known.update(launcher)).rejects.toThrow("down");
  expect(known.all).toEqual([sandbox("a")]);
});

test("refuses changes of another list, and requests the whole one next", async () => {
  const { launcher, asked } = answering(
    { revision: 7, sandboxes: [sandbox("a")] },
    { revision: 9, since: 8, sandboxes: [], removed: [parsePrincipalName("agent/a")] },
    { revision: 9, sandboxes: [sandbox("b")] },
  );
  const known = new KnownSandboxes();
  await known.update(launcher);
  await expect(known.update(launcher)).rejects.toThrow("since revision 8, and 7 was requested");
  await known.update(launcher);
  expect(asked.at(-1)).toEqual({});
  expect(known.all).toEqual([sandbox("b")]);
});
