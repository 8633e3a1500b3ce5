import { describe, expect, test } from "bun:test";
import { BureauError } from "@bureau/kit/errors";
import { checkRevocation, checkToken } from "@bureau/kit/signed-message";
import { ed25519Key, ed25519Verifier, newEd25519Key } from "@bureau/os/ed25519";
import { silentLog } from "@bureau/os/testing/silent-log";
import type { AuthorizationPolicy } from "@bureau/schema/authorization";
import type { SandboxServices, SandboxStatus } from "@bureau/schema/launcher-ipc";
import { type PrincipalName, parsePrincipalName, parseServerName, parseUserId } from "@bureau/schema/refs";
import type { RevokedToken, ServiceToken } from "@bureau/schema/service-token";
import type { Desired, DesiredPrincipal, WantedSandbox } from "../desired/desired.ts";
import type { RequiredService } from "../desired/resolve-services.ts";
import type { Launcher } from "../launcher/launcher-client.ts";
import { TurnedClock } from "../testing/turned-clock.ts";
import { ServiceAccess } from "./service-access.ts";
import { TokenMint } from "./token-mint.ts";

const agent = parsePrincipalName("agent/a");
const user = parseUserId("@b/fleet/p/agent/a:s");
const tickets = parsePrincipalName("service/tickets");
const others = parsePrincipalName("service/others");
const key = ed25519Key(newEd25519Key());
const verify = ed25519Verifier(key.publicKey);
const ticket = (provider: PrincipalName): RequiredService => ({
  role: "ticket",
  socketName: "ticket",
  provider,
  hearsRevocations: true,
});

class World {
  readonly clock = new TurnedClock();
  policy: AuthorizationPolicy = { grants: [{ actions: ["ticket/**"] }] };
  services: readonly RequiredService[] = [ticket(tickets)];
  readonly sockets = new Map<PrincipalName, number>([
    [tickets, 1],
    [others, 2],
  ]);
  running: number | undefined = 1_000;
  launcherFails = false;
  revokeFails: BureauError | undefined;
  left = new Map<string, RevokedToken>();
  readonly updates: SandboxServices[] = [];
  readonly revocations: { readonly to: PrincipalName; readonly ids: string[] }[] = [];
  readonly access = new ServiceAccess({
    clock: this.clock,
    log: silentLog,
    mint: new TokenMint({
      key,
      machine: parseUserId("@b/fleet/p/machine/m:s"),
      server: parseServerName("s"),
      clock: this.clock,
      policyOf: () => this.policy,
    }),
    launcher: {
      call: async (action: string, request: { services: SandboxServices }) => {
        if (this.launcherFails) throw new BureauError("unavailable", `no ${action}`);
        this.updates.push(request.services);
      },
    } as unknown as Launcher,
    statSocket: (provider) => {
      const ino = this.sockets.get(provider);
      return ino === undefined ? undefined : { ino, mtimeMs: 0 };
    },
    tokensLeftIn: () => this.left,
    revoke: async (to, bytes) => {
      if (this.revokeFails !== undefined) throw this.revokeFails;
      this.revocations.push({ to, ids: checkRevocation(bytes, verify).map(({ id }) => id) });
    },
  });

  get sandbox(): WantedSandbox {
    return {
      services: { services: this.services, missing: undefined, fault: undefined },
    } as unknown as WantedSandbox;
  }

  create(): ServiceToken {
    const given = this.access.servicesFor(agent, user, this.sandbox);
    if (given === undefined) throw new Error("nothing given");
    return this.read(given);
  }

  refresh(): Promise<number> {
    const principal = { account: agent, userId: user, outcome: { kind: "run", sandbox: this.sandbox } };
    const principals = new Map([[agent, principal as unknown as DesiredPrincipal]]);
    const sandbox = { principal: agent, state: "running", started_at: this.running };
    const list = this.running === undefined ? [] : [sandbox as unknown as SandboxStatus];
    return this.access.refresh({ principals } as unknown as Desired, list);
  }

  read({ tokens }: SandboxServices): ServiceToken {
    const check = { verify, audience: "ticket", nowMs: this.clock.now(), isRevoked: () => false };
    return checkToken(tokens["ticket"] ?? new Uint8Array(), check);
  }

  get last(): ServiceToken {
    const given = this.updates.at(-1);
    if (given === undefined) throw new Error("nothing given");
    return this.read(given);
  }
}

test("a sandbox that requires nothing costs nothing", async () => {
  const world = new World();
  expect(world.access.servicesFor(agent, user, {} as WantedSandbox)).toBeUndefined();
  world.services = [];
  await world.access.refresh({ principals: new Map() } as unknown as Desired, []);
  expect(world.updates).toEqual([]);
});

describe("a running sandbox", () => {
  test("keeps its token until 80 % of its life, and gets another then", async () => {
    const world = new World();
    const first = world.create();
    expect(first).toMatchObject({ subject: user, audience: "ticket", grants: [{ actions: ["ticket/**"] }] });
    expect(first.expiresAt - first.issuedAt).toBe(300);
    await world.refresh();
    await world.clock.turn(239_000);
    await world.refresh();
    expect(world.updates).toEqual([]);
    await world.clock.turn(2_000);
    await world.refresh();
    expect(world.last.id).not.toBe(first.id);
    expect(world.last.expiresAt).toBeGreaterThan(first.expiresAt);
    // The first one is still valid: a call may be under way with it.
    expect(world.revocations).toEqual([]);
  });

  test("gets a token without a grant that was taken away, and the one with it is revoked", async () => {
    const world = new World();
    const first = world.create();
    await world.refresh();
    world.policy = { grants: [{ actions: ["ticket/show"] }] };
    await world.refresh();
    expect(world.last.grants).toEqual([{ actions: ["ticket/show"], targets: [] }]);
    expect(world.revocations).toEqual([{ to: tickets, ids: [first.id] }]);
  });

  test("has a token that ends with its grant, and then one without", async () => {
    const world = new World();
    const expires_at = new Date(world.clock.now() + 60_000).toISOString();
    world.policy = { grants: [{ actions: ["ticket/**"], expires_at }] };
    const first = world.create();
    expect(first.expiresAt - first.issuedAt).toBeLessThanOrEqual(60);
    await world.clock.turn(60_000);
    await world.refresh();
    expect(world.last.grants).toEqual([]);
  });

  test("gets the socket of a restarted service, and of another one the role is bound to", async () => {
    const world = new World();
    const first = world.create();
    await world.refresh();
    world.sockets.set(tickets, 7);
    await world.refresh();
    expect(world.updates).toHaveLength(1);
    world.services = [ticket(others)];
    await world.refresh();
    expect(world.updates.at(-1)?.sockets).toEqual({ ticket: others });
    expect(world.revocations).toMatchObject([{ to: tickets }]);
    expect(world.revocations[0]?.ids).toContain(first.id);
  });

  test("is given them again when the launcher did not take them", async () => {
    const world = new World();
    world.create();
    await world.refresh();
    world.sockets.set(tickets, 7);
    world.launcherFails = true;
    expect(await world.refresh()).toBeLessThan(5_000);
    world.launcherFails = false;
    await world.refresh();
    expect(world.updates).toHaveLength(1);
  });
});

describe("the tokens of a sandbox that is gone", () => {
  test("are revoked at the service, also those it was given before", async () => {
    const world = new World();
    const first = world.create();
    await world.refresh();
    await world.clock.turn(241_000);
    await world.refresh();
    const second = world.last;
    world.running = undefined;
    await world.refresh();
    expect(world.revocations).toEqual([{ to: tickets, ids: [first.id, second.id] }]);
    await world.refresh();
    expect(world.revocations).toHaveLength(1);
  });

  test("are revoked when another sandbox has taken its name", async () => {
    const world = new World();
    const first = world.create();
    await world.refresh();
    world.running = 2_000;
    await world.refresh();
    expect(world.revocations).toEqual([{ to: tickets, ids: [first.id] }]);
    expect(world.last.id).not.toBe(first.id);
  });

  test("are revoked again at a service that restarts, until they have expired", async () => {
    const world = new World();
    world.create();
    await world.refresh();
    world.running = undefined;
    await world.refresh();
    world.sockets.set(tickets, 9);
    await world.refresh();
    expect(world.revocations).toHaveLength(2);
    await world.clock.turn(300_000);
    world.sockets.set(tickets, 10);
    await world.refresh();
    expect(world.revocations).toHaveLength(2);
  });

  test("are revoked also when an earlier daemon gave them", async () => {
    const world = new World();
    world.left = new Map([["ticket", { id: "left", expiresAt: world.clock.now() / 1_000 + 200 }]]);
    await world.refresh();
    world.running = undefined;
    await world.refresh();
    expect(world.revocations[0]?.ids).toContain("left");
  });

  test("are sent again to a service that does not answer, and not to one that knows no revocations", async () => {
    const world = new World();
    world.create();
    await world.refresh();
    world.running = undefined;
    world.revokeFails = new BureauError("timeout", "no answer");
    expect(await world.refresh()).toBeLessThan(5_000);
    world.revokeFails = new BureauError("invalid-input", 'unknown action "revoke-tokens"');
    expect(await world.refresh()).toBeGreaterThan(5_000);
    world.revokeFails = undefined;
    await world.refresh();
    expect(world.revocations).toEqual([]);
  });

  test("are not sent to a service that does not speak CBOR", async () => {
    const world = new World();
    world.services = [{ ...ticket(tickets), hearsRevocations: false }];
    world.create();
    await world.refresh();
    world.running = undefined;
    await world.refresh();
    expect(world.revocations).toEqual([]);
  });
});
