/** Ctrl-C while the homeserver accepts requests and never answers: the command ends at once. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { createServer, type Server, type Socket } from "node:net";
import { systemClock } from "@bureau/kit/clock";
import { MatrixSession } from "@bureau/matrix/session";
import { egressFetch } from "@bureau/os/egress";
import {
  fleetLocalpart,
  machineLocalpart,
  parseNamespace,
  parseRoomId,
  parseUserId,
} from "@bureau/schema/refs";
import type { Rollout } from "@bureau/schema/rollout";
import { followUpgrade } from "./follow-upgrade.ts";
import { runRollout } from "./rollout-controller.ts";

/** Far less than the 30 s of one request, and far more than an immediate end takes. */
setDefaultTimeout(15_000);

const fleet = fleetLocalpart(parseNamespace("bureau"), "local");
const machine = machineLocalpart(fleet, "m1");
const room = parseRoomId("!fleet:bureau.local");
const by = parseUserId("@operator:bureau.local");

let server: Server;
let session: MatrixSession;
const asked: Socket[] = [];
let onAsked = (): void => {};

beforeAll(async () => {
  server = createServer((socket) => {
    asked.push(socket);
    socket.on("error", () => {});
    socket.once("data", () => onAsked());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("expected a TCP server");
  session = new MatrixSession({
    fetch: egressFetch,
    homeserver: `http://127.0.0.1:${address.port}`,
    userId: by,
    token: "token",
  });
});
afterAll(() => {
  for (const socket of asked) socket.destroy();
  server.close();
});

/** Aborts once the homeserver has a request. */
function abortedOnceAsked(): AbortSignal {
  const stop = new AbortController();
  onAsked = () => stop.abort();
  return stop.signal;
}

test("a rollout controller returns the rollout as it last read it", async () => {
  const rollout: Rollout = {
    host_environment_path: "/nix/store/new",
    bureau_version: {},
    selector: "all",
    canary: 1,
    batch: 1,
    halt_on_error: true,
    rollback_on_error: false,
    wait_offline: false,
    timeout_seconds: 300,
    requested_by: by,
    started_at: "2026-01-01T00:00:00Z",
    state: "running",
    generation: 1,
    machines: [{ machine, state: "pending", attempt: 1 }],
  };
  const ended = await runRollout({
    takeTurn: async () => ({ [Symbol.dispose]: () => {} }),
    session,
    fleet,
    rollout,
    place: { room, id: "r1" },
    clock: systemClock,
    signal: abortedOnceAsked(),
    onProgress: () => {},
  });
  expect(ended).toEqual(rollout);
});

test("a wait for one machine reports that it was interrupted", async () => {
  const ended = await followUpgrade({
    session,
    place: { room, key: "bureau/fleet/local/machine/m1" },
    requestId: "q1",
    timeoutMs: 300_000,
    clock: systemClock,
    signal: abortedOnceAsked(),
    onStep: () => {},
  });
  expect(ended.outcome).toBe("interrupted");
});
