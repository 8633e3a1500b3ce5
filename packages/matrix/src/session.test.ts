import { describe, expect, test } from "bun:test";
import { systemClock } from "@bureau/kit/clock";
import { egressFetch } from "@bureau/os/egress";
import { parseRoomId, type UserId } from "@bureau/schema/refs";
import { startEmbeddedHomeserver } from "@bureau/testkit/embedded-homeserver";
import { isTransient, MatrixError } from "./matrix-error.ts";
import { RoomStateStore } from "./room-state.ts";
import { MatrixSession } from "./session.ts";
import { runSyncLoop } from "./sync-loop.ts";
import { parseSyncResponse, type SyncResponse } from "./sync-response.ts";
import { defineSession, refusal } from "./testing/session-contract.ts";

defineSession("the embedded homeserver", startEmbeddedHomeserver);

describe("sync without a homeserver", () => {
  const nothing = async (): Promise<SyncResponse> => parseSyncResponse({ next_batch: "s" });

  test("redacted state has empty content", () => {
    const store = new RoomStateStore();
    const room = parseRoomId("!room:bureau.test");
    const sync = (join: object): void => {
      store.apply(parseSyncResponse({ next_batch: "s", rooms: { join: { [room]: join } } }));
    };
    const secret = { type: "m.bureau.test", state_key: "", content: { value: 1 }, event_id: "$1" };
    sync({ state: { events: [secret] } });
    for (const redaction of [{ redacts: "$1", content: {} }, { content: { redacts: "$1" } }]) {
      sync({ timeline: { events: [secret] } });
      sync({ timeline: { events: [{ type: "m.room.redaction", event_id: "$2", ...redaction }] } });
      expect(store.room(room)?.get("m.bureau.test", "")?.content).toEqual({});
    }
  });

  test("shows events of our types only from permitted senders, and reports others once", () => {
    const told: string[] = [];
    const store = new RoomStateStore((sentence) => void told.push(sentence));
    const room = parseRoomId("!room:bureau.test");
    const put = (type: string, state_key: string, sender: string, content: object, event_id: string) => {
      const state = { events: [{ type, state_key, sender, content, event_id }] };
      store.apply(parseSyncResponse({ next_batch: "s", rooms: { join: { [room]: { state } } } }));
    };
    const read = () => store.room(room)?.get("m.bureau.credentials", "a:s")?.eventId;
    put("m.room.power_levels", "", "@admin:s", { users: { "@admin:s": 100 } }, "$1");
    put("m.bureau.credentials", "a:s", "@admin:s", { version: 1 }, "$2");
    expect(read()).toBe("$2");
    for (const id of ["$3", "$4"]) {
      put("m.bureau.credentials", "a:s", "@agent:s", { version: 1 }, id);
      expect([read(), read()]).toEqual([undefined, undefined]);
    }
    expect(told).toHaveLength(1);
    expect(store.room(room)?.ofType("m.bureau.credentials")).toEqual([]);
  });

  test("the same event with emptied content is a change; unchanged, it is not", () => {
    const store = new RoomStateStore();
    const event = { type: "m.bureau.test", state_key: "", content: { value: 1 }, event_id: "$1" };
    const changed = (content: object): number => {
      const state = { events: [{ ...event, content }] };
      return store.apply(parseSyncResponse({ next_batch: "s", rooms: { join: { "!r:s": { state } } } })).size;
    };
    expect([changed({ value: 1 }), changed({ value: 1 }), changed({})]).toEqual([1, 0, 1]);
  });

  test("drops a malformed event and keeps the others", () => {
    const good = { type: "a", state_key: "", content: {}, event_id: "$1" };
    const join = { "!r:s": { state: { events: [{ type: 5 }, "x", good] }, timeline: { events: [null] } } };
    const { joined } = parseSyncResponse({ next_batch: "s", rooms: { join } });
    expect(joined.get(parseRoomId("!r:s"))?.state.map(({ type }) => type)).toEqual(["a"]);
  });

  test("waits for an unreachable homeserver with growing pauses, and reports its return", async () => {
    let failures = 3;
    const away = new MatrixError("unavailable", "away");
    const pauses: number[] = [];
    const transitions: boolean[] = [];
    const stop = new AbortController();
    await runSyncLoop({
      session: { sync: () => (failures-- > 0 ? Promise.reject(away) : nothing()) },
      clock: {
        ...systemClock,
        sleep: (ms) => {
          pauses.push(ms);
          return Promise.resolve();
        },
      },
      random: () => 1,
      signal: stop.signal,
      onConnection: (connected) => void transitions.push(connected),
      onSync: () => stop.abort(),
    });
    expect(pauses).toEqual([1_000, 2_000, 4_000]);
    expect(transitions).toEqual([false, true]);
  });

  test("waits for the time in a 429", async () => {
    let refused = false;
    const pauses: number[] = [];
    const stop = new AbortController();
    const limited = new MatrixError("unavailable", "slow down", { status: 429, retryAfterMs: 7_777 });
    await runSyncLoop({
      session: {
        sync() {
          if (refused) return nothing();
          refused = true;
          return Promise.reject(limited);
        },
      },
      clock: {
        ...systemClock,
        sleep: (ms) => {
          pauses.push(ms);
          return Promise.resolve();
        },
      },
      signal: stop.signal,
      onSync: () => stop.abort(),
    });
    expect(pauses).toEqual([7_777]);
  });

  /** Runs the loop over scripted answers; a string is a next position. Returns the requests and the pauses. */
  async function loopOver(answers: readonly (string | MatrixError)[]) {
    const [asked, pauses, initial]: [(string | undefined)[], number[], boolean[]] = [[], [], []];
    const stop = new AbortController();
    await runSyncLoop({
      session: {
        sync({ since }) {
          const answer = answers[asked.length] ?? "the end";
          asked.push(since);
          if (asked.length >= answers.length) stop.abort();
          if (answer instanceof MatrixError) return Promise.reject(answer);
          return Promise.resolve(parseSyncResponse({ next_batch: answer }));
        },
      },
      clock: { ...systemClock, sleep: async (ms) => void pauses.push(ms) },
      random: () => 1,
      signal: stop.signal,
      onSync: (_, first) => void initial.push(first),
    });
    return { asked, pauses, initial };
  }

  test("syncs from the start when the homeserver does not know the position, with growing pauses", async () => {
    const refused = new MatrixError("failed", "no", { status: 400, errcode: "M_INVALID_PARAM" });
    const { asked, pauses, initial } = await loopOver([
      "s1",
      refused,
      "s2",
      refused,
      "s3",
      "s4",
      refused,
      "s5",
    ]);
    expect(asked).toEqual([undefined, "s1", undefined, "s2", undefined, "s3", "s4", undefined]);
    expect(initial).toEqual([true, true, true, false, true]);
    expect(pauses).toEqual([1_000, 2_000, 1_000]);
  });

  test("waits its own delay when the homeserver asks for no pause", async () => {
    const limited = new MatrixError("unavailable", "slow down", { status: 429, retryAfterMs: 0 });
    expect((await loopOver([limited, limited, "s1"])).pauses).toEqual([1_000, 2_000]);
  });
});

test("an account is missing only when its profile is missing and its name is free", async () => {
  const seen = async (profile: Response, available: Response): Promise<boolean> => {
    await using server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: ({ url }) => (url.includes("/profile/") ? profile : available),
    });
    const userId: UserId = "@me:bureau.test" as UserId;
    const session = new MatrixSession({
      fetch: egressFetch,
      homeserver: server.url.href,
      userId,
      token: "t",
    });
    return await session.isMissing("@alcie:bureau.test" as UserId);
  };
  const refuse = (status: number, errcode: string) => Response.json({ errcode, error: "" }, { status });
  const free = () => Response.json({ available: true });
  expect(await seen(refuse(404, "M_NOT_FOUND"), free())).toBe(true);
  // Synapse 1.163 answers so for the profile of a missing account.
  expect(await seen(refuse(404, "M_UNKNOWN"), free())).toBe(true);
  expect(await seen(Response.json({}), free())).toBe(false);
  expect(await seen(refuse(404, "M_NOT_FOUND"), refuse(400, "M_USER_IN_USE"))).toBe(false);
  expect(await seen(refuse(404, "M_NOT_FOUND"), refuse(403, "M_FORBIDDEN"))).toBe(false);
  expect(await seen(refuse(404, "M_UNRECOGNIZED"), free())).toBe(false);
  expect(await seen(refuse(403, "M_FORBIDDEN"), free())).toBe(false);
});

describe("failures", () => {
  const user: UserId = "@user:bureau.test" as UserId;
  const against = async (answer: () => Response): Promise<MatrixError> => {
    await using server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: answer });
    const session = new MatrixSession({
      fetch: egressFetch,
      homeserver: server.url.href,
      userId: user,
      token: "secret-token",
    });
    return await refusal(session.joinRoom(parseRoomId("!room:bureau.test")));
  };

  test("a refused connection is transient", async () => {
    const session = new MatrixSession({
      fetch: egressFetch,
      homeserver: "http://127.0.0.1:1",
      userId: user,
      token: "secret-token",
    });
    const error = await refusal(session.whoami());
    expect(error).toMatchObject({ code: "unavailable", status: 0 });
    expect(isTransient(error)).toBe(true);
    expect(error.message).not.toContain("secret-token");
  });

  test("an error page of a proxy in front is transient", async () => {
    const error = await against(() => new Response("<html>bad gateway</html>", { status: 502 }));
    expect(error).toMatchObject({ code: "unavailable", status: 502, errcode: "" });
  });

  test("a refusal names the act, the value, the response, and the next command", async () => {
    const body = { errcode: "M_FORBIDDEN", error: "not yours" };
    const error = await against(() => Response.json(body, { status: 403 }));
    expect(error.message).toBe("Cannot join !room:bureau.test: not yours (403 M_FORBIDDEN)");
    expect(error.hint).toContain("bureau whoami");
    const silent = await against(() => new Response("<html>no</html>", { status: 403 }));
    expect(silent.message).toEndWith(": the homeserver gives no reason (HTTP 403)");
    const ended = { errcode: "M_UNKNOWN_TOKEN", error: "gone" };
    expect((await against(() => Response.json(ended, { status: 401 }))).hint).toContain("bureau login");
    const full = { errcode: "M_RESOURCE_LIMIT_EXCEEDED", error: "The homeserver's disk is full" };
    const unwritten = await against(() => Response.json(full, { status: 507 }));
    expect(unwritten.message).toContain("disk is full");
    expect([unwritten.code, unwritten.hint]).toEqual(["unavailable", expect.stringContaining("df -h")]);
  });

  test("retries a rate-limited request after the homeserver's delay, in both forms", async () => {
    const answers = [
      Response.json({ errcode: "M_LIMIT_EXCEEDED", retry_after_ms: 20 }, { status: 429 }),
      Response.json({ errcode: "M_LIMIT_EXCEEDED" }, { status: 429, headers: { "retry-after": "0" } }),
      Response.json({ errcode: "M_LIMIT_EXCEEDED", retry_after_ms: 10 }, { status: 403 }),
      Response.json({ errcode: "M_FORBIDDEN" }, { status: 403 }),
    ];
    let asked = 0;
    const error = await against(() => answers[asked++] ?? new Response());
    expect([asked, error.errcode]).toEqual([4, "M_FORBIDDEN"]);
  });

  test("a rate limit beyond the maximum wait is an error that names the wait", async () => {
    const body = { errcode: "M_LIMIT_EXCEEDED", retry_after_ms: 3_600_000 };
    const error = await against(() => Response.json(body, { status: 429 }));
    expect(error).toMatchObject({ code: "unavailable", retryAfterMs: 3_600_000 });
    expect(error.hint).toContain("--admin-token-file");
    expect(isTransient(error)).toBe(true);
  });

  test("a success that is not JSON is a permanent failure", async () => {
    const error = await against(() => new Response("hello"));
    expect(error.code).toBe("failed");
    expect(isTransient(error)).toBe(false);
  });

  test("each request uses the given fetch, and ends with the session's signal", async () => {
    const urls: string[] = [];
    const stop = new AbortController();
    const session = new MatrixSession({
      homeserver: "unix:/run/bureau/proxy.sock",
      userId: user,
      token: "secret-token",
      signal: stop.signal,
      fetch(url, { signal }) {
        urls.push(url);
        const { promise, reject } = Promise.withResolvers<Response>();
        signal?.addEventListener("abort", () => reject(new Error("it was ended")));
        return promise;
      },
    });
    const asked = refusal(session.whoami());
    stop.abort();
    expect(await asked).toMatchObject({ code: "unavailable" });
    expect(urls).toEqual(["http+unix://%2Frun%2Fbureau%2Fproxy.sock/_matrix/client/v3/account/whoami"]);
  });

  test("does not follow a redirect with the token", async () => {
    let asked = 0;
    await using thief = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: () => {
        asked++;
        return Response.json({ room_id: "!x:y" });
      },
    });
    await against(() => Response.redirect(thief.url.href, 307));
    expect(asked).toBe(0);
  });
});
