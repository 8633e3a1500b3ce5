/** The build with Nix: made without network or toolchain, one store path per program, the flake, sandboxes. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import type { DoctorJson } from "@bureau/cli/machine/doctor-report";
import { installed, LabFleet } from "./fleet.ts";
import { buildInside } from "./machine.ts";
import { useLab } from "./use-lab.ts";

const repository = join(import.meta.dir, "../..");
const expressions = "/opt/bureau-nix";
let fleet: LabFleet;
const lab = useLab(async (opened) => {
  await Promise.all([
    opened.boot("n1", { image: "nix", binds: { [join(repository, "nix")]: expressions } }),
    LabFleet.open(opened, "embedded").then((made) => {
      fleet = made;
    }),
  ]);
});
const n1 = () => lab().machine("n1");

const make = (build: string): Promise<string> =>
  n1()
    .ok(`nix-build ${expressions}/host-env.nix -A environment --no-out-link --argstr build ${build}`)
    .then((said) => said.trim());
const closure = async (path: string): Promise<string[]> =>
  (await n1().ok(`nix-store --query --requisites ${path}`)).trim().split("\n");
/** `/nix/store/HASH-NAME` → `NAME`. */
const nameOf = (path: string): string => path.replace(/^\/nix\/store\/[a-z0-9]+-/u, "");

test("Nix makes a complete build, which runs, even through links", async () => {
  const env = await make(buildInside);
  expect(env).toMatch(/^\/nix\/store\/[a-z0-9]+-bureau-host-env$/u);
  const expected = await n1().ok(`${buildInside}/bin/bureau version`);
  expect(await n1().ok(`${env}/bin/bureau version`)).toBe(expected);
  await n1().ok(`ln -sfn ${env} /root/current; ln -sfn ${env}/bin/bureau /usr/local/bin/bureau-in-store`);
  expect(await n1().ok("/root/current/bin/bureau version; bureau-in-store version")).toBe(expected.repeat(2));
  expect((await closure(env)).map(nameOf).sort()).toEqual([
    "bureau",
    "bureau-bin",
    "bureau-bridge",
    "bureau-call",
    "bureau-daemon",
    "bureau-first-boot",
    "bureau-greeter",
    "bureau-homeserver",
    "bureau-host-env",
    "bureau-host-env-manifest",
    "bureau-launcher",
    "bureau-manifest",
    "bureau-proxy",
    "bureau-runtime",
    "bureau-service-directory",
    "bureau-service-sample",
    "bureau-supervisor",
  ]);
});

test("one changed program changes only its own store path", async () => {
  const copy = "/root/changed";
  await n1().ok(
    `cp -a ${buildInside} ${copy} && chmod -R u+w ${copy} && echo '// more' >> ${copy}/lib/bureau-proxy/main.js && sed -i 's/"version": "/&9/' ${copy}/build.json`,
  );
  const before = await closure(await make(buildInside));
  const added = (await closure(await make(copy))).filter((path) => !before.includes(path));
  expect(added.map(nameOf).sort()).toEqual(["bureau-host-env", "bureau-manifest", "bureau-proxy"]);
  const sizes = (await n1().ok(`nix-store --query --size ${added.join(" ")}`)).trim().split("\n");
  expect(sizes.reduce((sum, size) => sum + Number(size), 0)).toBeLessThan(2_000_000);
});

test("an instance that runs from the store has working sandboxes", async () => {
  const env = await make(buildInside);
  const options = { user: "alice", timeoutMs: 120_000 };
  await n1().ok(`${env}/bin/bureau up --json`, options);
  const command = "/run/bureau/programs/bin/bureau version > /tmp/said; cat /tmp/said; sleep 1000";
  await n1().ok(`${env}/bin/bureau agent create inside --command '${command}'`, options);
  await n1().eventually(`${env}/bin/bureau status --json | grep -q '"name": *"agent/inside"'`, options);
  await n1().eventually(
    `for f in /proc/[0-9]*/root/tmp/said; do grep -qs ^bureau "$f" && exit 0; done; exit 1`,
    {
      user: "root",
    },
  );
  expect(
    await n1().ok("cat /proc/$(pgrep -f lib/bureau-daemon/[m]ain.js)/cmdline | tr '\\0' ' '", options),
  ).toContain(`${env}/lib/bureau-daemon/main.js`);
  await n1().ok(`${env}/bin/bureau down`, options);
});

test("a flake with the build's own data makes the same path without other input", async () => {
  const env = await make(buildInside);
  const told = await n1().json<{ parts: string[]; path: string }>(
    `nix-instantiate --eval --strict --json --read-write-mode ${expressions}/host-env.nix -A told --argstr build ${buildInside}`,
  );
  expect(told.path).toBe(env);
  await n1().ok(`mkdir -p /root/flake && cp -r ${expressions} /root/flake/nix`);
  await n1().writeFile("/root/flake/flake.nix", await Bun.file(join(repository, "flake.nix")).text());
  const system = process.arch === "arm64" ? "aarch64-linux" : "x86_64-linux";
  const parts = told.parts.map((part) => `"${part}"`).join(" ");
  await n1().writeFile("/root/flake/nix/build.nix", `{ ${system} = [ ${parts} ]; }\n`);
  const built = "cd /root/flake && nix build .#bureau-host-env --print-out-paths --no-link";
  expect((await n1().ok(built)).trim()).toBe(env);
});

test("a system installation runs from the store, and keeps what it runs from", async () => {
  const env = await make(buildInside);
  const fix = `${env}/bin/bureau machine doctor --fix --json ${fleet.doctorFlags("n1")}`;
  const input = await fleet.provision("n1");
  const { stdout, stderr, code } = await n1().run(fix, { user: "alice", input, timeoutMs: 120_000 });
  expect([code, code === 0 ? "" : `${stdout}${stderr}`]).toEqual([0, ""]);
  await n1().ok("rm -rf /root/current /root/flake && nix-store --gc");
  expect(await n1().ok("readlink -f /var/bureau/programs/current")).toBe(`${env}\n`);
  expect(await n1().ok(`${installed} version`, { user: "alice" })).toBe(
    await n1().ok(`${buildInside}/bin/bureau version`),
  );
  await n1().ok(`${installed} machine doctor --json`, { user: "alice" });
  const { checks } = await n1().json<DoctorJson>(`${installed} machine doctor --json`);
  const status = (id: string) => checks.find((check) => check.id === id)?.status;
  expect(["build", "commands", "running-launcher", "running-daemon"].map(status)).toEqual(
    Array(4).fill("pass"),
  );
});
