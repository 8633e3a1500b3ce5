/**
 * Builds from a Nix binary cache: fetched by an unprivileged daemon, refused without a change when they cannot
 * be fetched or trusted, protected from garbage collection while in use, and removed completely afterwards.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import type { MachineVersion } from "@bureau/schema/events";
import { bureau, complaints, examine, FLEET, LabFleet } from "./fleet.ts";
import { diffListings, type Listing } from "./listing.ts";
import { buildInside, type Machine, runtimeInside } from "./machine.ts";
import { useLab } from "./use-lab.ts";

const repository = join(import.meta.dir, "../..");
const checkout = "/opt/checkout";
const CACHE = "http://builder:8080";
/** A build waits only for its own start here. */
const times = { proof: 25_000, soak: 1_500, launcherProof: 10_000, launcherSoak: 1_000 };
const TEST_MS_MAX = 240_000;

/** Serves /srv/cache; a file "slow" beside it delays every NAR, so that progress is visible. */
const server = `
Bun.serve({ port: 8080, async fetch({ url }) {
  const path = new URL(url).pathname;
  if (path.startsWith("/nar/") && (await Bun.file("/srv/slow").exists())) await Bun.sleep(1_500);
  const file = Bun.file("/srv/cache" + path);
  return (await file.exists()) ? new Response(file) : new Response("no", { status: 404 });
} });`;

let fleet: LabFleet;
let trusted: string;
let before: Listing;
let nixConfig: string;
const lab = useLab(async (opened) => {
  const [made] = await Promise.all([
    LabFleet.open(opened, "embedded"),
    opened.boot("builder", { image: "nix", binds: { [repository]: checkout } }),
    opened.boot("m1", { image: "nix" }),
  ]);
  fleet = made;
  const builder = opened.machine("builder");
  await builder.writeFile("/srv/server.ts", server);
  await builder.ok(
    "mkdir -p /srv/cache && echo StoreDir: /nix/store > /srv/cache/nix-cache-info && touch /srv/slow",
  );
  for (const name of ["good", "other"])
    await builder.ok(
      `nix key generate-secret --key-name ${name}-1 > /root/${name} && nix key convert-secret-to-public < /root/${name} > /root/${name}.pub`,
    );
  trusted = (await builder.ok("cat /root/good.pub")).trim();
  await serve();
  await fleet.do(`fleet cache ${FLEET} --url ${CACHE} --public-key ${trusted}`);
  // Files that Nix creates for itself, once, when it keeps or collects paths.
  await m1().ok(
    "nix-store --realise $(nix-store --add /etc/hostname) --add-root /root/kept && rm /root/kept && nix-collect-garbage",
  );
  before = await stateOf(m1());
  nixConfig = await m1().readFile("/etc/nix/nix.conf");
  await m1().ok(`systemctl set-environment BUREAU_UPGRADE_TIMES='${JSON.stringify(times)}'`);
});
const m1 = (): Machine => lab().machine("m1");
const builder = (): Machine => lab().machine("builder");

/** Without the store, whose paths go when garbage is collected. */
const stateOf = (machine: Machine): Promise<Listing> =>
  machine.listing({
    exclude: [
      "/nix/store",
      "/nix/var/nix/db",
      "/nix/var/nix/temproots",
      "/root/.cache",
      "/home/alice/.sudo_as_admin_successful",
      "/nix/var/nix/gc.lock",
    ],
  });

async function serve(): Promise<void> {
  await builder().ok(`systemd-run --unit cache ${runtimeInside} /srv/server.ts`);
  await builder().eventually("curl -s http://localhost:8080/ -o /dev/null");
}

/** Makes a build as an operator does, on the machine with Nix and a checkout. */
async function make(stamp: string): Promise<string> {
  const script = `${runtimeInside} ${checkout}/scripts/host-env.ts --print --build ${buildInside} --stamp ${stamp} --out /root/out`;
  return (await builder().ok(script, { timeoutMs: 120_000 })).trim();
}

const push = (path: string, key = "good"): Promise<string> =>
  builder().ok(`nix copy --to 'file:///srv/cache?compression=none&secret-key=/root/${key}' ${path}`);

const version = async (): Promise<MachineVersion> =>
  (await fleet.json<{ version: MachineVersion }>(`machine show m1 --fleet ${FLEET}`)).version;

type Upgraded = { readonly outcome: string; readonly reason?: string };
async function upgrade(to: string): Promise<Upgraded> {
  const { stdout, stderr } = await fleet
    .command(`machine upgrade m1 --fleet ${FLEET} ${to} --wait --json`, {
      timeoutMs: 120_000,
    })
    .catch(async (error: unknown) => {
      throw new Error(`${String(error)}\n${await m1().journal()}`);
    });
  try {
    const upgraded = JSON.parse(stdout) as Upgraded;
    if (upgraded.outcome === "rolled-back") console.error(await m1().journal());
    return upgraded;
  } catch {
    throw new Error(`machine upgrade ${to}: ${stdout}\n${stderr}\n${await m1().journal()}`);
  }
}
const take = async (path: string): Promise<void> => {
  expect(await upgrade(`--host-env ${path} --on-machine`)).toMatchObject({ outcome: "succeeded" });
  expect(await m1().ok("readlink /var/bureau/programs/current")).toBe(`${path}\n`);
};
const collect = (): Promise<string> => m1().ok("nix-collect-garbage 2>&1");
const isThere = async (path: string): Promise<boolean> => (await m1().run(`test -e ${path}`)).code === 0;
const pids = (): Promise<string> =>
  m1().ok("systemctl show -P MainPID bureau-launcher bureau-daemon bureau-terminals");

let v1: string;
let v2: string;
let v3: string;
let untrusted: string;

test(
  "the one sudo lets Nix use and trust the fleet's cache, and the system user use Nix",
  async () => {
    await fleet.join(m1());
    expect(await m1().readFile("/etc/nix/nix.conf")).toContain(`extra-trusted-public-keys = ${trusted}`);
    expect(await m1().ok("id -nG bureau")).toContain("nix-users");
    expect(complaints(await examine(m1(), "--operator alice"))).toEqual({});
    await m1().ok("systemctl stop nix-daemon nix-daemon.socket; systemctl start nix-daemon.socket");
  },
  TEST_MS_MAX,
);

test(
  "a missing build is fetched with visible progress, then upgraded to in place",
  async () => {
    v1 = await make("v1");
    await push(v1);
    await fleet.createAgent("m1", "worker", "sleep 100000");
    const [before, agent] = [await pids(), await fleet.agentRuns(m1(), "worker")];
    expect(await isThere(v1)).toBe(false);
    const typed = `${bureau} machine upgrade m1 --fleet ${FLEET} --host-env ${v1} --on-machine --wait`;
    const shown = await fleet.op.run(`TERM=xterm script -qec '${typed}' /dev/null`, { timeoutMs: 120_000 });
    if (shown.code !== 0) throw new Error(`${shown.stdout}\n${await m1().journal()}`);
    expect(shown.stdout).toMatch(/Upgrading \S+: prefetch/u);
    expect(await m1().ok("readlink /var/bureau/programs/current")).toBe(`${v1}\n`);
    expect([await pids(), await fleet.agentRuns(m1(), "worker")]).toEqual([before, agent]);
    expect(await m1().ok(`nix-store --query --roots ${v1}`)).toContain("/var/bureau/programs/nix-roots/");
    await builder().ok("rm /srv/slow");
  },
  TEST_MS_MAX,
);

test(
  "a build that cannot be fetched is refused with the reason, and nothing changes",
  async () => {
    v2 = await make("v2");
    untrusted = await make("untrusted");
    await push(untrusted, "other");
    const state = async () => [
      await pids(),
      await m1().ok(
        "readlink /var/bureau/programs/current; ls /nix/var/nix/gcroots/auto /var/bureau/programs/nix-roots",
      ),
    ];
    const before = await state();
    const refused = async (path: string, reason: RegExp): Promise<void> => {
      const { outcome, reason: said } = await upgrade(`--host-env ${path} --on-machine`);
      console.log(`refused: ${said}`);
      expect({ outcome, said }).toEqual({ outcome: "refused", said: expect.stringMatching(reason) });
      expect(await isThere(path)).toBe(false);
      expect(await state()).toEqual(before);
    };
    await refused(v2, /the fleet's cache http:\/\/builder:8080 does not have it/u);
    await refused(untrusted, /not signed by any of the keys/u);
    await builder().ok("systemctl stop cache");
    await refused(v2, /the fleet's cache http:\/\/builder:8080 does not answer/u);
    await serve();
    // The failed look-up is not cached.
    await push(v2);
    await fleet.createAgent("m1", "held", "sleep 100000");
    await fleet.agentRuns(m1(), "held");
    await take(v2);
  },
  TEST_MS_MAX,
);

test(
  "garbage collection keeps the running build, the previous one, and those that a sandbox still uses",
  async () => {
    v3 = await make("v3");
    await push(v3);
    await take(v3);
    await collect();
    expect(await Promise.all([v1, v2, v3].map(isThere))).toEqual([true, true, true]);
    await fleet.do(`agent destroy held --machine ${FLEET}/machine/m1`);
    await m1().eventually(`! test -e /var/bureau/programs/nix-roots/${v1.slice("/nix/store/".length)}`);
    await collect();
    expect(await Promise.all([v1, v2, v3].map(isThere))).toEqual([false, true, true]);
    expect(await upgrade("--rollback")).toMatchObject({ outcome: "succeeded" });
    expect(await m1().ok("readlink /var/bureau/programs/current")).toBe(`${v2}\n`);
    expect((await version()).previous_host_environment_path).toBe(v3);
  },
  TEST_MS_MAX,
);

test(
  "the last two builds are kept where builds are made; a rootless instance keeps those it needs",
  async () => {
    const areThere = async (...paths: string[]): Promise<boolean[]> =>
      Promise.all(paths.map(async (path) => (await builder().run(`test -e ${path}`)).code === 0));
    await builder().ok("nix-collect-garbage");
    expect(await areThere(v1, v2, untrusted, v3)).toEqual([false, false, true, true]);
    const alice = { user: "alice", timeoutMs: 120_000 };
    await builder().ok(`BUREAU_UPGRADE_TIMES='${JSON.stringify(times)}' ${untrusted}/bin/bureau up`, alice);
    await builder().ok(`${v3}/bin/bureau machine upgrade --local --host-env ${v3} --wait`, alice);
    await builder().ok("rm -r /root/out && nix-collect-garbage");
    expect(await areThere(untrusted, v3)).toEqual([true, true]);
    await builder().ok(`${v3}/bin/bureau down && rm -rf ~/.local/share/bureau`, alice);
    await builder().ok("nix-collect-garbage");
    expect(await areThere(untrusted, v3)).toEqual([false, false]);
  },
  TEST_MS_MAX,
);

test(
  "with a plain folder again only the previous build is kept; a machine that leaves removes its Nix roots",
  async () => {
    const plain = (await m1().ok("ls -d /var/bureau/builds/*")).trim();
    await take(plain);
    await m1().eventually("test $(ls /var/bureau/programs/nix-roots | wc -l) = 1");
    await collect();
    expect(await Promise.all([v2, v3].map(isThere))).toEqual([true, false]);
    await m1().ok(`${bureau} machine uninstall --remove-user --discard-data`, { user: "alice" });
    expect(await m1().readFile("/etc/nix/nix.conf")).toBe(nixConfig);
    expect(diffListings(before, await stateOf(m1()))).toEqual([]);
    await collect();
    expect(await m1().ok("ls /nix/store | grep bureau || true")).toBe("");
  },
  TEST_MS_MAX,
);
