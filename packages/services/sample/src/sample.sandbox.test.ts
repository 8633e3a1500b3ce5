/**
 * A service that checks tokens, and callers in other sandboxes: what they are granted, what they are not, and what happens
 * to their tokens when the service restarts and when their sandbox is gone.
 */
import { expect, test } from "bun:test";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { checkToken, signRevocation, signToken } from "@bureau/kit/signed-message";
import { callCbor } from "@bureau/os/cbor-client";
import { ed25519Key, ed25519Verifier, newEd25519Key } from "@bureau/os/ed25519";
import { sandboxPaths, tokenSigningKeyFile } from "@bureau/os/layout";
import { eventTypes } from "@bureau/schema/events";
import {
  aliasOf,
  parseFleet,
  parseMachine,
  parseNamespace,
  parsePrincipalName,
  parseUserId,
  rooms,
  serverOf,
} from "@bureau/schema/refs";
import { eventually, useBureau } from "@bureau/testkit/use-bureau";
import { looseObject, string, unknown } from "valibot";

const running = useBureau();
const fleet = parseFleet("bureau/fleet/local");
const paths = (name: string) => sandboxPaths(running().layout, fleet, parsePrincipalName(name));
const peer = { peer: "sample" };

const template = async (name: string, content: object): Promise<void> => {
  const session = running().session();
  const alias = aliasOf(rooms.template(parseNamespace("bureau")), serverOf(session.userId));
  const room = await session.resolveAlias(alias);
  if (room === undefined) throw new Error(`no room ${alias}`);
  await session.putState(room, eventTypes.template, name, { ...content });
};
/** The output of a principal, once it contains `text`. */
const output = (name: string, text: string): Promise<string> =>
  eventually(
    async () => {
      const { stdout } = await running().run("agent", "logs", name);
      return stdout.includes(text) ? stdout : undefined;
    },
    { describe: async () => (await running().run("agent", "logs", name)).stdout },
  );
const show = (name: string) =>
  running().json<{ state: string; reason?: string; pid?: number }>("agent", "show", name);

test("a caller waits for its service, is granted and refused by its token, and keeps its socket across a restart", async () => {
  await template("sample", { inherits: ["bureau/template:service"], command: ["bureau-service-sample"] });
  await template("caller", {
    inherits: ["bureau/template:agent"],
    required_services: ["sample"],
    authorization: { grants: [{ actions: ["sample/greet"] }] },
    command: [
      "sh",
      "-c",
      `bureau-call sample greet '{"name":"Ada"}'; bureau-call sample erase; echo "refused with $?"; while ! [ -e /workspace/again ]; do sleep 0.1; done; bureau-call sample greet '{"name":"Bob"}'; exec sleep 1000`,
    ],
  });
  const early = await running().run(
    "agent",
    "create",
    "demo",
    "--template",
    "bureau/template:caller",
    "--no-wait",
  );
  expect(early.code).toBe(0);
  const waiting = await eventually(async () => {
    const found = await show("demo");
    return found.state === "waiting" ? found : undefined;
  });
  expect(waiting.reason).toContain('a binding of the service role "sample"');

  await running().json("agent", "create", "service/sample", "--template", "bureau/template:sample");
  await running().json("service", "bind", "sample", "service/sample");
  const said = await output("demo", "refused with");
  expect(said).toContain('"text":"Hello, Ada"');
  expect(said).toContain("access denied: no grant for sample/erase");
  expect(said).toContain("refused with 3");

  // The service restarts: its caller keeps running and finds it at the same path.
  const socket = () => statSync(join(paths("agent/demo").services, "sample.sock")).ino;
  const first = socket();
  await running().json("agent", "destroy", "service/sample");
  await running().json("agent", "create", "service/sample", "--template", "bureau/template:sample");
  await eventually(async () => {
    try {
      return socket() === first ? undefined : true;
    } catch {
      return undefined;
    }
  });
  const started = (await show("demo")).pid;
  writeFileSync(join(running().layout.workspaceRoot, "home/agent/demo/again"), "");
  expect(await output("demo", "Hello, Bob")).toContain("Hello, Ada");
  expect((await show("demo")).pid).toBe(started);
}, 120_000);

const greet = (token: Uint8Array | undefined) =>
  callCbor(
    paths("service/sample").serviceSocket,
    { action: "greet", name: "Eve", ...(token === undefined ? {} : { token }) },
    looseObject({ text: string() }),
    peer,
  );
const tokenOf = (name: string): Uint8Array => readFileSync(join(paths(name).serviceTokens, "sample.token"));

test("a token that is missing, forged, for another role, or of a sandbox that is gone is refused", async () => {
  const token = tokenOf("agent/demo");
  expect((await greet(token)).text).toBe("Hello, Eve");
  await expect(greet(undefined)).rejects.toThrow("authentication required: missing token field");
  const forged = Uint8Array.from(token);
  forged[10] = (forged[10] ?? 0) ^ 1;
  await expect(greet(forged)).rejects.toThrow("authentication failed");

  // As the daemon of another machine would sign it, and as ours does for another role.
  const stranger = ed25519Key(newEd25519Key());
  const own = ed25519Key(readFileSync(tokenSigningKeyFile(running().layout)));
  const nowS = Math.floor(Date.now() / 1_000);
  const verify = ed25519Verifier(own.publicKey);
  const check = { verify, audience: "sample", nowMs: Date.now(), isRevoked: () => false };
  const content = checkToken(token, check);
  const everything = { ...content, grants: [{ actions: ["**"], targets: ["**"] }] };
  await expect(greet(signToken(everything, stranger.sign))).rejects.toThrow("authentication failed");
  await expect(greet(signToken({ ...everything, audience: "other" }, own.sign))).rejects.toThrow(
    "authentication failed",
  );
  const elsewhere = parseUserId("@bureau/fleet/local/machine/other:x");
  await expect(greet(signToken({ ...everything, machine: elsewhere }, own.sign))).rejects.toThrow(
    "authentication failed",
  );
  await expect(greet(signToken({ ...everything, expiresAt: nowS }, own.sign))).rejects.toThrow(
    "authentication failed: token expired",
  );
  const revocation = signRevocation([{ id: content.id, expiresAt: content.expiresAt }], nowS, stranger.sign);
  await expect(
    callCbor(paths("service/sample").serviceSocket, { action: "revoke-tokens", revocation }, unknown(), peer),
  ).rejects.toThrow("authentication failed");
  expect((await greet(token)).text).toBe("Hello, Eve");

  await running().json("agent", "destroy", "demo");
  await eventually(async () => {
    const refused = await greet(token).then(
      () => undefined,
      (error: Error) => error.message,
    );
    return refused === "authentication failed: token revoked" ? true : undefined;
  });
  // A service that restarts learns the revocations again.
  await running().json("agent", "destroy", "service/sample");
  await running().json("agent", "create", "service/sample", "--template", "bureau/template:sample");
  await eventually(async () => {
    const refused = await greet(token).then(
      () => undefined,
      (error: Error) => error.message,
    );
    return refused === "authentication failed: token revoked" ? true : undefined;
  });
}, 120_000);

test("oversized, broken and slow requests do not disturb the calls of others", async () => {
  await running().json("agent", "create", "demo", "--template", "bureau/template:caller");
  await output("demo", "refused with");
  const path = paths("service/sample").serviceSocket;
  const slow = Array.from({ length: 20 }, () => {
    const socket = connect({ path });
    socket.on("error", () => {});
    socket.write(Uint8Array.of(0xa1, 0x66));
    return socket;
  });
  const large = connect({ path });
  large.on("error", () => {});
  large.write(Buffer.concat([Uint8Array.of(0x5a, 0x7f, 0xff, 0xff, 0xff), Buffer.alloc(2 * 1024 * 1024)]));
  const token = tokenOf("agent/demo");
  const answers = await Promise.all(Array.from({ length: 10 }, () => greet(token)));
  expect(answers.map(({ text }) => text)).toEqual(Array.from({ length: 10 }, () => "Hello, Eve"));
  for (const socket of [...slow, large]) socket.destroy();
}, 120_000);

test("an operator calls a service with a token of their own, once a room policy grants it", async () => {
  const call = () => running().run("service", "call", "sample", "greet", '{"name":"Op"}');
  const session = running().session();
  const machine = (await running().json<{ machine: { name: string } }>("status")).machine.name;
  const config = await session.resolveAlias(aliasOf(parseMachine(machine), serverOf(session.userId)));
  if (config === undefined) throw new Error("no config room");
  // A new config room gives its administrators every grant.
  expect((await call()).code).toBe(0);
  await session.putState(config, eventTypes.authorization, "", {});
  const denied = await eventually(async () => {
    const { code, stderr } = await call();
    return code === 0 ? undefined : stderr;
  });
  expect(denied).toContain('may not do "sample": no matching grant');
  const policy = { power_level_grants: { "100": [{ actions: ["sample/greet"] }] } };
  await session.putState(config, eventTypes.authorization, "", policy);
  const answer = await eventually(async () => {
    const { code, stdout } = await call();
    return code === 0 ? stdout : undefined;
  });
  expect(JSON.parse(answer)).toEqual({ text: "Hello, Op", caller: session.userId });
  const erase = await running().run("service", "call", "sample", "erase");
  expect(erase.stderr).toContain("access denied: no grant for sample/erase");
  const unbound = await running().run("service", "call", "nothing", "x");
  expect(unbound.stderr).toContain('may not do "nothing"');
}, 120_000);

test("from inside, a caller cannot change its sockets and tokens, nor see those of others", async () => {
  await template("burglar", {
    inherits: ["bureau/template:agent"],
    required_services: ["sample"],
    command: [
      "sh",
      "-c",
      [
        "cd /run/bureau/service",
        "(echo x > token/sample.token) 2>&1; (rm -f sample.sock) 2>&1; (ln -s /workspace/x.sock other.sock) 2>&1",
        "ls -a . token | tr '\\n' ' '",
        "find / -name '*.token' -not -path '/proc/*' 2>/dev/null | tr '\\n' ' '",
        'find / -name token-signing-key 2>/dev/null; bureau-call ../../proxy x; bureau-call sample greet \'{"name":"me"}\'',
        "echo done with $?; exec sleep 1000",
      ].join("; "),
    ],
  });
  await running().json("agent", "create", "burglar", "--template", "bureau/template:burglar");
  const said = (await output("agent/burglar", "done with")).replaceAll("\n", " ");
  expect(said.match(/Read-only file system/gu)).toHaveLength(3);
  expect(said).toContain(".: . .. sample.sock token");
  expect(said.match(/\S*\.token\b/gu)?.filter((path) => path.startsWith("/"))).toEqual([
    "/run/bureau/service/token/sample.token",
  ]);
  expect(said).not.toContain("token-signing-key");
  expect(said).toContain('Invalid service role "../../proxy"');
  // It has a token, and no grant.
  expect(said).toContain("access denied: no grant for sample/greet");
  expect(said).toContain("done with 3");
  for (const [path, mode] of [
    [paths("service/sample").serviceSocket, 0o660],
    [join(paths("agent/burglar").serviceTokens, "sample.token"), 0o600],
    [tokenSigningKeyFile(running().layout), 0o600],
  ] as const)
    expect([path, statSync(path).mode & 0o777]).toEqual([path, mode]);
}, 120_000);
