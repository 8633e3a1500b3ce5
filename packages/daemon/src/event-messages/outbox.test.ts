import { expect, test } from "bun:test";
import { existsSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, systemClock } from "@bureau/kit/clock";
import { MatrixError } from "@bureau/matrix/matrix-error";
import { silentLog } from "@bureau/os/testing/silent-log";
import { parsePrincipalName } from "@bureau/schema/refs";
import { type EventMessage, eventMessage } from "./event-message.ts";
import { Outbox } from "./outbox.ts";
import { keepUnsent, takeUnsent } from "./unsent.ts";

const text = (body: string): EventMessage => ({ msgtype: "m.text", body });

/** Sends with `send` until `count` messages have arrived; the clock records pauses and does not wait. */
async function deliver(
  messages: readonly string[],
  send: (body: string, txnId: string) => Promise<unknown>,
  count: number,
): Promise<{ arrived: string[]; pauses: number[] }> {
  const pauses: number[] = [];
  const clock: Clock = {
    ...systemClock,
    sleep: (ms, signal) => {
      if (signal === undefined || ms > 2 ** 30) return systemClock.sleep(ms, signal);
      pauses.push(ms);
      return Promise.resolve();
    },
  };
  const outbox = new Outbox({ clock, log: silentLog, random: () => 1 });
  for (const body of messages) outbox.post(text(body));
  const stop = new AbortController();
  const arrived: string[] = [];
  await outbox.run(async (content, txnId) => {
    await send(content.body, txnId);
    arrived.push(content.body);
    if (arrived.length === count) stop.abort();
  }, stop.signal);
  return { arrived, pauses };
}

test("messages arrive in order", async () => {
  const { arrived } = await deliver(["a", "b", "c"], async () => {}, 3);
  expect(arrived).toEqual(["a", "b", "c"]);
});

test("retries a message with growing pauses and one transaction while the homeserver is unreachable", async () => {
  const transactions = new Set<string>();
  let failures = 3;
  const { arrived, pauses } = await deliver(
    ["a"],
    async (_, txnId) => {
      transactions.add(txnId);
      if (failures-- > 0)
        throw new MatrixError("unavailable", "away", { retryAfterMs: failures === 0 ? 77 : undefined });
    },
    1,
  );
  expect(arrived).toEqual(["a"]);
  expect(pauses).toEqual([1_000, 2_000, 77]);
  expect(transactions.size).toBe(1);
});

test("drops a message that is refused for good, and sends the next one", async () => {
  const { arrived } = await deliver(
    ["refused", "b"],
    async (body) => {
      if (body === "refused") throw new MatrixError("forbidden", "no", { status: 403 });
    },
    1,
  );
  expect(arrived).toEqual(["b"]);
});

test("keeps a thousand messages, and drops the oldest beyond that", async () => {
  const messages = Array.from({ length: 1_005 }, (_, index) => String(index));
  const { arrived } = await deliver(messages, async () => {}, 1_000);
  expect(arrived[0]).toBe("5");
  expect(arrived.at(-1)).toBe("1004");
});

test("a revoked session ends it", async () => {
  const revoked = new MatrixError("unauthorized", "gone", { status: 401, errcode: "M_UNKNOWN_TOKEN" });
  await expect(deliver(["a"], () => Promise.reject(revoked), 1)).rejects.toBe(revoked);
});

test("sends the last fifty lines of a failed program, and none of a successful one", () => {
  const output = `${Array.from({ length: 80 }, (_, index) => `line ${index}`).join("\n")}\n\n\n`;
  const exit = { code: 2, description: "exited with 2", output, at: 0 };
  const lines = String(eventMessage.exited(parsePrincipalName("agent/a"), exit)["captured_output"]).split(
    "\n",
  );
  expect([lines.length, lines[0], lines.at(-1)]).toEqual([50, "line 30", "line 79"]);
  expect(eventMessage.exited(parsePrincipalName("agent/a"), { ...exit, code: 0 })).not.toHaveProperty(
    "captured_output",
  );
});

test("the next build sends unsent messages, under the same transactions", async () => {
  const file = join(mkdtempSync(join(tmpdir(), "ob-")), "unsent.json");
  const before = new Outbox({ clock: systemClock, log: silentLog, random: () => 1 });
  for (const body of ["a", "b"]) before.post(text(body));
  keepUnsent(file, before.unsent, silentLog);
  // A build that crashes before it has sent them leaves them to the next.
  for (const count of [1, 2]) {
    const stop = new AbortController();
    const next = new Outbox({
      clock: systemClock,
      log: silentLog,
      random: () => 1,
      ...takeUnsent(file, silentLog),
    });
    expect(next.unsent).toEqual(before.unsent);
    const sent: string[] = [];
    const running = next.run(async (_, txnId) => {
      sent.push(txnId);
      if (sent.length === count) setTimeout(() => stop.abort(), 20);
      if (sent.length > count - 1 && count === 1) await new Promise(() => {});
    }, stop.signal);
    if (count === 2) await running;
    else await Bun.sleep(40);
    expect(sent).toEqual(before.unsent.slice(0, count).map(({ txnId }) => txnId));
    expect(existsSync(file)).toBe(count === 1);
  }
});
