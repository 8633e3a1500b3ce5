/**
 * Services and their tokens: minting and checking beside the Ed25519 operation alone, and a call from a sandbox's folder to
 * a service in another sandbox beside an echo over a bare unix socket. Compared values are taken in turns.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { callService } from "@bureau/in-sandbox/call-service";
import { checkToken, signToken } from "@bureau/kit/signed-message";
import { machineReport } from "@bureau/os/daemon-client";
import { ed25519Key, ed25519Verifier, newEd25519Key } from "@bureau/os/ed25519";
import { sandboxPaths } from "@bureau/os/layout";
import { runtimeArguments } from "@bureau/os/runtime-command";
import { eventTypes } from "@bureau/schema/events";
import {
  aliasOf,
  parseFleet,
  parseNamespace,
  parsePrincipalName,
  parseUserId,
  rooms,
  serverOf,
} from "@bureau/schema/refs";
import { createBureau, type TestBureau } from "@bureau/testkit/bureau";
import { eventually } from "@bureau/testkit/use-bureau";
import { unknown } from "valibot";
import { cpuMs } from "./memory.ts";
import { type Figure, figure, quantile } from "./statistics.ts";

const TOKEN_ROUNDS = 40;
const TOKENS_A_ROUND = 200;
const CALLS = 2_000;
const CALLS_A_TURN = 100;
/** Decoding is a fifth of a check; on a crowded machine the ratio was 2.6. */
const CHECK_RATIO_MAX = 8;
/** On two crowded processors, three processes take turns where the echo has two. */
const CALL_RATIO_MAX = 30;

export async function benchTrustServices(): Promise<Figure[]> {
  return [...tokenFigures(), ...(await callFigures())];
}

function tokenFigures(): Figure[] {
  const key = ed25519Key(newEd25519Key());
  const verify = ed25519Verifier(key.publicKey);
  const token = {
    subject: parseUserId("@bureau/fleet/prod/agent/a:example.org"),
    machine: parseUserId("@bureau/fleet/prod/machine/m:example.org"),
    audience: "ticket",
    grants: [{ actions: ["ticket/**"], targets: ["agent/**"] }],
    id: "00".repeat(16),
    issuedAt: 1_000,
    expiresAt: 1_300,
  };
  const bytes = signToken(token, key.sign);
  const payload = bytes.subarray(0, -64);
  const signature = bytes.subarray(-64);
  const check = { verify, audience: "ticket", nowMs: 1_100_000, isRevoked: () => false };
  const acts = {
    sign: () => void key.sign(payload),
    mint: () => void signToken(token, key.sign),
    verify: () => void verify(payload, signature),
    check: () => void checkToken(bytes, check),
  };
  const samples = inTurns(acts);
  const perSecond = (name: keyof typeof acts): number => 1e6 / Math.min(...samples[name]);
  const us = (name: keyof typeof acts): number => Math.min(...samples[name]);
  return [
    figure("service tokens minted", perSecond("mint"), "1/s"),
    figure("service token, minting", us("mint"), "µs", { name: "Ed25519 signature", value: us("sign") }),
    figure("service tokens checked", perSecond("check"), "1/s"),
    figure(
      "service token, checking",
      us("check"),
      "µs",
      { name: "Ed25519 verification", value: us("verify") },
      "≤ 1.3×",
      CHECK_RATIO_MAX,
    ),
  ];
}

/** Microseconds of each act, by round. */
function inTurns<Name extends string>(acts: Readonly<Record<Name, () => void>>): Record<Name, number[]> {
  const names = Object.keys(acts) as Name[];
  const samples = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = 0; round < TOKEN_ROUNDS; round++)
    for (const name of names) {
      const started = performance.now();
      for (let at = 0; at < TOKENS_A_ROUND; at++) acts[name]();
      if (round > 2) samples[name].push(((performance.now() - started) * 1_000) / TOKENS_A_ROUND);
    }
  return samples;
}

async function callFigures(): Promise<Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), "be-"));
  const socket = join(folder, "echo.sock");
  const runtime = join(import.meta.dir, "../dist/current/runtime/bun");
  const program = join(import.meta.dir, "echo-program.ts");
  const echo = Bun.spawn([runtime, ...runtimeArguments, program, socket], { stdout: "pipe" });
  await using bureau = createBureau();
  try {
    await echo.stdout.getReader().read();
    const services = await twoSandboxes(bureau);
    const message = readFileSync(join(services, "token/sample.token"));
    const { principals = [] } = await machineReport(bureau.layout);
    const service = principals.find(({ name }) => name === "service/sample");
    const own = [service?.pid, service?.proxy_pid].filter((pid) => pid !== undefined);
    const kinds = {
      echo: { act: () => echoOnce(socket, message), pids: [process.pid, echo.pid] },
      call: {
        act: () => callService("sample", "greet", { name: "Ada" }, unknown(), { folder: services }),
        pids: [process.pid, ...own],
      },
    };
    const wallUs = { echo: [] as number[], call: [] as number[] };
    const cpuUs = { echo: 0, call: 0 };
    for (let turn = 0; turn < CALLS / CALLS_A_TURN; turn++)
      for (const kind of ["echo", "call"] as const) {
        const { act, pids } = kinds[kind];
        const before = pids.reduce((sum, pid) => sum + cpuMs(pid), 0);
        for (let at = 0; at < CALLS_A_TURN; at++) wallUs[kind].push(await timed(act));
        cpuUs[kind] += ((pids.reduce((sum, pid) => sum + cpuMs(pid), 0) - before) * 1_000) / CALLS;
      }
    const at = (fraction: number) => ({
      name: "echo over a bare unix socket",
      value: quantile(wallUs.echo, fraction),
    });
    return [
      figure("service call between sandboxes, p10", quantile(wallUs.call, 0.1), "µs", at(0.1), "≤ 2×"),
      figure(
        "service call between sandboxes, p50",
        quantile(wallUs.call, 0.5),
        "µs",
        at(0.5),
        "≤ 2×",
        CALL_RATIO_MAX,
      ),
      figure(
        "service call between sandboxes, processor time of client, proxy and service",
        cpuUs.call,
        "µs",
        { name: "echo, client and server", value: cpuUs.echo },
        "≤ 2×",
      ),
    ];
  } finally {
    echo.kill();
    await echo.exited;
    rmSync(folder, { recursive: true });
  }
}

const timed = async (act: () => Promise<unknown>): Promise<number> => {
  const started = performance.now();
  await act();
  return (performance.now() - started) * 1_000;
};

const echoOnce = (path: string, message: Uint8Array): Promise<void> =>
  new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.on("error", reject);
    socket.once("data", () => {
      socket.destroy();
      resolve();
    });
    socket.write(message);
  });

/** A service and its caller; returns the caller's folder of services. */
async function twoSandboxes(bureau: TestBureau): Promise<string> {
  await bureau.json("up");
  const session = bureau.session();
  const alias = aliasOf(rooms.template(parseNamespace("bureau")), serverOf(session.userId));
  const room = await session.resolveAlias(alias);
  if (room === undefined) throw new Error(`no room ${alias}`);
  const put = (name: string, content: object) =>
    session.putState(room, eventTypes.template, name, { ...content });
  await put("sample", { inherits: ["bureau/template:service"], command: ["bureau-service-sample"] });
  await put("caller", {
    inherits: ["bureau/template:agent"],
    required_services: ["sample"],
    authorization: { grants: [{ actions: ["sample/**"] }] },
    command: ["sleep", "1000"],
  });
  await bureau.json("service", "bind", "sample", "service/sample");
  await bureau.json("agent", "create", "service/sample", "--template", "bureau/template:sample");
  await bureau.json("agent", "create", "caller", "--template", "bureau/template:caller");
  const paths = sandboxPaths(
    bureau.layout,
    parseFleet("bureau/fleet/local"),
    parsePrincipalName("agent/caller"),
  );
  await eventually(() =>
    callService("sample", "greet", { name: "Ada" }, unknown(), { folder: paths.services }).catch(
      () => undefined,
    ),
  );
  return paths.services;
}

if (import.meta.main) console.log(JSON.stringify(await benchTrustServices(), null, 2));
