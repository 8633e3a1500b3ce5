import { describe, expect, test } from "bun:test";
import { MatrixError } from "@bureau/matrix/matrix-error";
import { silentLog } from "@bureau/os/testing/silent-log";
import type { MachineStatus } from "@bureau/schema/events";
import type { SandboxStatus } from "@bureau/schema/launcher-ipc";
import { parseEventId, parsePrincipalName, parseRoomId, parseUserId } from "@bureau/schema/refs";
import { Heartbeat, runHeartbeat } from "./heartbeat.ts";
import { machineStatus } from "./machine-status.ts";

const machine = parseUserId("@bureau/fleet/f/machine/m:s");
/** A clock on which no time passes. */
const instant = { now: () => 0, monotonic: () => 0, sleep: async () => {} };
const rooms = { config: parseRoomId("!c:s"), fleetMachines: parseRoomId("!m:s") };

test("checks between heartbeats whether others have replaced the machine's published state", async () => {
  const stop = new AbortController();
  const done: string[] = [];
  await runHeartbeat(
    {
      session: {
        getState: async () => undefined,
        putState: async (room) => {
          if (room === rooms.config) done.push("beat");
          return parseEventId("$1");
        },
      },
      machine,
      rooms,
      intervalMs: 1,
      sandboxes: () => [],
      userOf: () => machine,
      auditHead: () => undefined,
      async publishFacts() {
        if (done.push("facts") > 9) stop.abort();
        throw new Error("the homeserver is away");
      },
      clock: instant,
      log: silentLog,
    },
    stop.signal,
  );
  const four = ["beat", "beat", "beat", "beat", "facts"];
  expect(done).toEqual([...four, ...four]);
});

const sandbox = (name: string): SandboxStatus => ({
  principal: parsePrincipalName(name),
  digests: { spec: "", payload: "" },
  state: "running",
  proxy: { state: "running" },
  started_at: 0,
});

/** Sends heartbeats 30 s apart. Returns, for each, the rooms it was written in, with the interval it names. */
async function beats(
  count: number,
  options: {
    readonly running?: (beat: number) => readonly string[];
    readonly hasController?: boolean;
    readonly refuses?: boolean;
  } = {},
): Promise<string[]> {
  const { running = () => ["agent/a"], hasController = false, refuses = false } = options;
  const seen: string[] = [];
  let beat = 0;
  let written: string[] = [];
  const heartbeat = new Heartbeat({
    session: {
      getState: async (room, type, key) => {
        expect([room, type, key]).toEqual([
          rooms.fleetMachines,
          "m.room.member",
          "@bureau/fleet/f/service/fleet:s",
        ]);
        return { membership: hasController ? "join" : "leave" };
      },
      putState: async (room, _type, _key, content) => {
        if (refuses && room === rooms.config) throw new MatrixError("forbidden", "no");
        const due = (content as MachineStatus).heartbeat_interval_seconds;
        written.push(`${room === rooms.config ? "own" : "shared"} ${due}`);
        return parseEventId("$1");
      },
    },
    machine,
    rooms,
    intervalMs: 30_000,
    sandboxes: () => running(beat).map(sandbox),
    userOf: () => machine,
    auditHead: () => undefined,
    clock: { now: () => 0, monotonic: () => beat * 30_000, sleep: async () => {} },
  });
  for (; beat < count; beat++) {
    written = [];
    await heartbeat.send(new AbortController().signal);
    seen.push(written.join(", "));
  }
  return seen;
}

describe("a heartbeat is written in the machine's own room", () => {
  test("and copied to the fleet's machine room every 150 s, below the 210 s of earlier builds", async () => {
    const copied = "own 30, shared 150";
    expect(await beats(7)).toEqual([copied, "own 30", "own 30", "own 30", "own 30", copied, "own 30"]);
  });

  test("and copied at once when other sandboxes run", async () => {
    const running = (beat: number) => (beat < 2 ? ["agent/a"] : ["agent/b"]);
    expect(await beats(4, { running })).toEqual([
      "own 30, shared 150",
      "own 30",
      "own 30, shared 150",
      "own 30",
    ]);
  });

  test("and each is copied while a fleet controller is in the machine room", async () => {
    expect(await beats(3, { hasController: true })).toEqual(Array(3).fill("own 30, shared 30"));
  });

  test("or in the machine room alone when the own room does not let the machine write it", async () => {
    expect(await beats(3, { refuses: true })).toEqual(Array(3).fill("shared 30"));
  });
});

test("lists the principals that fit into an event, the busy ones first, and says how many more run", () => {
  const names = Array.from({ length: 2_000 }, (_, index) => `agent/a-name-of-usual-length-${index}`);
  const principals = new Map(
    names.map((name, index) => [
      name,
      { cpu_percent: index % 50, memory_mb: 900, status: "running" } as const,
    ]),
  );
  const status = machineStatus(
    { machine, userOf: (account) => parseUserId(`@bureau/fleet/f/${account}:s`), auditHead: () => undefined },
    { cpuPercent: 1, memoryUsedMb: 1, uptimeSeconds: 1, principals },
    names.map(sandbox),
  );
  const listed = Object.values(status.principals ?? {});
  expect(JSON.stringify(status).length).toBeLessThan(60_000);
  expect(listed.length).toBeGreaterThan(400);
  expect(listed.length + (status.principals_omitted ?? 0)).toBe(2_000);
  expect(Math.min(...listed.map(({ cpu_percent }) => cpu_percent))).toBeGreaterThan(30);
  expect(status.sandboxes.running).toBe(2_000);
});

test("does not wait for its interval when other sandboxes run than the last heartbeat named", async () => {
  const stop = new AbortController();
  const [named, running]: [string[], SandboxStatus[]] = [[], []];
  let sleeps = 0;
  await runHeartbeat(
    {
      session: {
        getState: async () => undefined,
        putState: async (room, _type, _key, content) => {
          if (room !== rooms.config) return parseEventId("$1");
          const { principals = {} } = content as MachineStatus;
          if (named.push(`${Object.keys(principals).length} after ${sleeps}`) === 3) stop.abort();
          return parseEventId("$1");
        },
      },
      machine,
      rooms,
      intervalMs: 30_000,
      sandboxes: () => running,
      userOf: () => machine,
      auditHead: () => undefined,
      publishFacts: async () => {},
      clock: {
        now: () => 0,
        monotonic: () => sleeps * 5_000,
        sleep: async () => {
          if (++sleeps === 2) running.push({ ...sandbox("agent/a"), pid: process.pid });
        },
      },
      log: silentLog,
    },
    stop.signal,
  );
  expect(named).toEqual(["0 after 0", "1 after 2", "1 after 8"]);
});

test("warns of a refused heartbeat, and not of a homeserver that is away", async () => {
  const said: string[] = [];
  const stop = new AbortController();
  const errors = [new MatrixError("unavailable", "away"), new MatrixError("too-large", "refused")];
  const say = (level: string) => (event: string) => void said.push(`${level} ${event}`);
  await runHeartbeat(
    {
      session: {
        getState: async () => undefined,
        putState: async () => {
          const error = errors.shift();
          if (error !== undefined) throw error;
          stop.abort();
          return parseEventId("$1");
        },
      },
      machine,
      rooms,
      intervalMs: 1,
      sandboxes: () => [],
      userOf: () => machine,
      auditHead: () => undefined,
      publishFacts: async () => {},
      clock: instant,
      log: { ...silentLog, debug: say("debug"), warn: say("warn") },
    },
    stop.signal,
  );
  expect(said).toEqual(["debug heartbeat.failed", "warn heartbeat.refused"]);
});
