/**
 * A stock homeserver: Synapse with its default rate limits. A person sets up a
 * namespace, a fleet, three machines and ten agents in sequence, once with a server admin and once without. No
 * command fails or takes longer than a person would wait. The test prints the requests of each.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type DoorCount, type HomeserverDoor, openHomeserverDoor } from "@bureau/testkit/homeserver-door";
import { type Synapse, startSynapse } from "@bureau/testkit/synapse";
import { eventually } from "@bureau/testkit/use-bureau";
import { Host } from "./contract/host.ts";
import { Person } from "./contract/person.ts";

const COMMAND_MS_MAX = 180_000;
setDefaultTimeout(15 * 60_000);

const fleet = "bureau/fleet/prod";

/** A stock Synapse, and a person who uses it. */
class Site {
  readonly person = new Person();
  readonly hosts: Host[] = [];
  readonly adminTokenFile = join(this.person.dir, "admin-token");
  /** The requests of the last command. */
  count: DoorCount = { requests: 0, writes: 0, limited: 0, bytes: 0 };
  readonly #registrationFile = join(this.person.dir, "registration-token");

  private constructor(
    readonly synapse: Synapse,
    readonly door: HomeserverDoor,
  ) {
    writeFileSync(this.adminTokenFile, synapse.adminToken, { mode: 0o600 });
    writeFileSync(this.#registrationFile, synapse.registrationToken, { mode: 0o600 });
  }

  static async open(): Promise<Site> {
    const synapse = await startSynapse(undefined, "stock");
    return new Site(synapse, openHomeserverDoor(synapse.url));
  }

  /** Runs a command within its time limit, and prints its time and requests. */
  async run<T = Record<string, unknown>>(...args: string[]): Promise<T> {
    const started = performance.now();
    this.door.takeCount();
    const result = await this.person.json<T>(...args);
    const ms = performance.now() - started;
    this.count = this.door.takeCount();
    const { requests, writes, limited } = this.count;
    console.log(
      `bureau ${args.slice(0, 3).join(" ")}: ${(ms / 1_000).toFixed(1)} s, ${requests} requests, ${writes} writes, ${limited} refused for their rate`,
    );
    expect(ms).toBeLessThan(COMMAND_MS_MAX);
    return result;
  }

  setUp = (...more: string[]) =>
    this.run<{ rate_limit: string }>(
      ...["matrix", "setup", "--homeserver", this.door.url],
      ...["--registration-token-file", this.#registrationFile, ...more],
    );

  async join(name: string): Promise<void> {
    const host = new Host(name, this.synapse.serverName, fleet);
    this.hosts.push(host);
    await this.run(...["machine", "provision", name, "--fleet", fleet, "--output", host.bootstrap]);
    await host.startBoth();
    await eventually(async () => (host.logText("daemon").includes("in sync with") ? true : undefined), {
      timeoutMs: COMMAND_MS_MAX,
      describe: () => host.logText("launcher") + host.logText("daemon"),
    });
  }

  async close(): Promise<void> {
    for (const host of this.hosts) await host[Symbol.asyncDispose]();
    this.door[Symbol.dispose]();
    await this.synapse.stop();
    rmSync(this.person.dir, { recursive: true, force: true });
  }
}

describe("a stock Synapse with its admin's token", () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.open();
  });
  afterAll(() => site.close());

  test("sets up a namespace, a fleet, three machines and ten running agents in one go", async () => {
    const made = await site.setUp("--admin-token-file", site.adminTokenFile, "--server-admin");
    expect(made.rate_limit).toBe("lifted");
    await site.run("fleet", "create", fleet);
    for (const name of ["one", "two", "three"]) await site.join(name);
    for (let number = 1; number <= 10; number++) {
      const machine = site.hosts[number % 3]?.machine ?? "";
      const command = ["--machine", machine, "--command", "sleep 1000"];
      await site.run("agent", "create", `a${number}`, "--fleet", fleet, ...command);
    }
    const logs = (): string => site.hosts.map((host) => host.logText("daemon")).join("");
    const started = (): Set<string | undefined> =>
      new Set(
        [...logs().matchAll(/"event":"principal.started","message":"[^"]*","principal":"([^"]+)"/g)].map(
          ([, agent]) => agent,
        ),
      );
    await eventually(async () => (started().size === 10 ? true : undefined), {
      timeoutMs: COMMAND_MS_MAX,
      describe: logs,
    });
  });
});

describe("a stock Synapse without its admin", () => {
  let site: Site;
  beforeAll(async () => {
    site = await Site.open();
  });
  afterAll(() => site.close());

  test("creates a namespace and a fleet with few writes, and again with none", async () => {
    expect((await site.setUp()).rate_limit).toBe("stands");
    // Registration takes three, each of the seven rooms one, the request to lift the limit one.
    expect(site.count).toMatchObject({ writes: 11, limited: 0 });
    await site.run("fleet", "create", fleet);
    expect(site.count.writes - site.count.limited).toBe(6);
    await site.setUp();
    expect(site.count).toMatchObject({ writes: 1, limited: 0 });
    await site.run("fleet", "create", fleet);
    expect(site.count).toMatchObject({ writes: 0, limited: 0 });
  });
});
