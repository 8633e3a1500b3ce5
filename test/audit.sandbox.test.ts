/**
 * Denied acts of real sandboxes arrive in the config room: once, with their count, in an unbroken chain; also when the
 * homeserver does not answer and the daemon is killed meanwhile.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { identify, signalProcess } from "@bureau/os/process-table";
import { eventTypes } from "@bureau/schema/events";
import { aliasOf, serverOf } from "@bureau/schema/refs";
import { eventually, useBureau } from "@bureau/testkit/use-bureau";

setDefaultTimeout(120_000);
const running = useBureau();

type Entry = {
  actor: string;
  action: string;
  reason: string;
  count: number;
  sequence: number;
  detail?: string;
};

const eventsOf = async (name: string): Promise<Entry[]> =>
  (await running().json<{ events: Entry[] }>("audit", "--principal", `agent/${name}`)).events;

const total = (events: readonly Entry[]): number => events.reduce((sum, { count }) => sum + count, 0);

async function expectChain(): Promise<void> {
  const { code, stdout, stderr } = await running().run("audit", "verify");
  expect({ code, stdout, stderr }).toMatchObject({ code: 0 });
  expect(stdout).toContain("the chain holds");
}

const ask = (path: string): string =>
  `curl -s -o /dev/null --unix-socket /run/bureau/proxy.sock -X POST -d '{}' http://proxy${path}`;

test("a denied request that is repeated is one event with its count", async () => {
  const command = `for i in 1 2 3 4 5 6 7; do ${ask("/v1/matrix/room")}; done; ${ask("/http/elsewhere/x")}; sleep 1000`;
  await running().json("agent", "create", "eager", "--command", command);
  const events = await eventually(
    async () => {
      const found = await eventsOf("eager");
      return total(found) >= 8 ? found : undefined;
    },
    { describe: async () => JSON.stringify(await eventsOf("eager")) + running().logs(20) },
  );
  expect(events).toMatchObject([
    { action: "matrix/create-room", reason: "no matching grant", count: 7 },
    { action: "upstream/elsewhere", count: 1 },
  ]);
  expect(events[0]?.actor).toContain("/agent/eager:");
  await expectChain();
  const { stdout } = await running().run("audit");
  expect(stdout).toMatch(/deny\s+agent\/eager\s+matrix\/create-room\s+7\s+no matching grant\s+proxy\/matrix/);
});

test("what is denied while the homeserver does not answer arrives once and in order, also after a killed daemon", async () => {
  const pidOf = async (program: "daemon" | "homeserver"): Promise<number | undefined> => {
    const status = await running().json<Record<string, { pid: number | null }>>("status");
    return status[program]?.pid ?? undefined;
  };
  const loop = `for i in $(seq 40); do ${ask("/v1/matrix/room")}; sleep 0.1; done; echo all-asked; sleep 1000`;
  await running().json("agent", "create", "outage", "--command", `sleep 2; ${loop}`);
  const [homeserver, daemon] = [await pidOf("homeserver"), await pidOf("daemon")].map((pid) =>
    pid === undefined ? undefined : identify(pid),
  );
  if (homeserver === undefined || daemon === undefined) throw new Error("the programs do not run");
  signalProcess(homeserver, "SIGSTOP");
  try {
    await Bun.sleep(4_000);
    signalProcess(daemon, "SIGKILL");
    await Bun.sleep(4_000);
  } finally {
    signalProcess(homeserver, "SIGCONT");
  }
  const events = await eventually(
    async () => {
      const found = await eventsOf("outage");
      return total(found) >= 40 ? found : undefined;
    },
    {
      timeoutMs: 60_000,
      describe: async () => JSON.stringify(await eventsOf("outage")) + running().logs(20),
    },
  );
  expect(total(events)).toBe(40);
  const numbers = events.map(({ sequence }) => sequence);
  expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
  expect(new Set(numbers).size).toBe(numbers.length);
  await expectChain();
});

test("a temporal grant is recorded when it begins, is revoked, and has expired", async () => {
  const session = running().session();
  const { machine } = await running().json<{ machine: { name: string } }>("status");
  const room = await session.resolveAlias(aliasOf(machine.name as never, serverOf(session.userId)));
  if (room === undefined) throw new Error("there is no config room");
  const { user_id: principal } = await running().json<{ user_id: string }>(
    ...["agent", "create", "granted", "--command", "sleep 1000"],
  );
  const give = (ticket: string, seconds: number) =>
    session.putState(room, eventTypes.temporalGrant, ticket, {
      principal,
      grant: {
        actions: ["matrix/join"],
        expires_at: new Date(Date.now() + seconds * 1_000).toISOString(),
        granted_by: "@forged:bureau.local",
      },
    });
  await give("tkt-short", 4);
  await give("tkt-long", 3_600);
  const decisions = async (wanted: number): Promise<string[]> =>
    eventually(async () => {
      const { events } = await running().json<{
        events: { decision: string; ticket: string; actor: string }[];
      }>("audit", "--principal", principal);
      for (const { actor } of events) expect(actor).toBe(session.userId);
      return events.length >= wanted
        ? events.map(({ decision, ticket }) => `${decision} ${ticket}`)
        : undefined;
    });
  expect((await decisions(2)).sort()).toEqual(["grant_created tkt-long", "grant_created tkt-short"]);
  expect(await decisions(3)).toContain("grant_expired tkt-short");
  await session.putState(room, eventTypes.temporalGrant, "tkt-long", {});
  expect(await decisions(4)).toContain("grant_revoked tkt-long");
  await expectChain();
});
