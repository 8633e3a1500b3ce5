/**
 * Builds with another file format, upgrade and rollback, on a machine with running agents: real builds, whose formats a
 * plugin of the bundler has replaced.
 */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { errnoOf } from "@bureau/kit/errors";
import { daemonStateFile, sandboxPaths, specHistoryDir, upgradeStateFile } from "@bureau/os/layout";
import { argumentsOf, identify, signalProcess } from "@bureau/os/process-table";
import { programIn } from "@bureau/os/runtime-command";
import type { StateFormats } from "@bureau/os/state-format";
import type { MachineReport } from "@bureau/schema/observe-wire";
import { parseFleet, parsePrincipalName } from "@bureau/schema/refs";
import { bureauCommand, createBureau, type TestBureau } from "@bureau/testkit/bureau";
import { eventually } from "@bureau/testkit/use-bureau";
import { buildInto } from "../../scripts/build.ts";

setDefaultTimeout(180_000);
const times = {
  proof: 8_000,
  soak: 5_000,
  launcherProof: 8_000,
  launcherSoak: 2_000,
  judge: 5_000,
  margin: 1_000,
};

/** A second format: completions are a list, sandboxes and versions lie one level deeper, under another name. */
const source = (writes: number): string => `
const plain = { decode: (_, stored) => stored, encode: (_, value) => value };
const second = {
  decode: (kind, stored) => kind === "completions"
    ? { completed: Object.fromEntries(stored.done.map(({ account, ...rest }) => [account, rest])) }
    : stored.body,
  encode: (kind, value) => kind === "completions"
    ? { done: Object.entries(value.completed).map(([account, rest]) => ({ account, ...rest })) }
    : { kind, body: value },
};
const knownFormats = { 1: plain, 2: second };
const WRITTEN_FORMAT = ${writes}; export { knownFormats, WRITTEN_FORMAT };
`;
const plugin = (writes: number): Bun.BunPlugin => ({
  name: "formats",
  setup(builder) {
    builder.onLoad({ filter: /\/packages\/os\/src\/state-formats\.ts$/u }, () => ({
      contents: source(writes),
      loader: "ts",
    }));
  },
});

let bureau: TestBureau;
let root: string;
/** Reads format 1; reads both and writes the first; reads both and writes the second. */
let [first, expanding, second]: [string, string, string] = ["", "", ""];

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "bf-"));
  const make = async (writes: number): Promise<string> => {
    const folder = join(root, `writes-${writes}`);
    const state: StateFormats = { reads: [1, 2], writes };
    await buildInto(folder, [plugin(writes)], state);
    return folder;
  };
  first = realpathSync(join(bureauCommand, "../.."));
  [expanding, second] = [await make(1), await make(2)];
  bureau = createBureau({ env: { BUREAU_UPGRADE_TIMES: JSON.stringify(times) } });
  await bureau.json("up");
  await bureau.json("agent", "create", "worker", "--command", "sleep 100000");
  await bureau.json("agent", "create", "once", "--command", "echo done", "--restart-policy", "on-failure");
  await eventually(async () => (await principal("once")).state === "completed" || undefined);
  // Running agents are recorded as steady some seconds later. Wait for it, so that no compared file changes by itself.
  await eventually(async () => (isSteady("greeter") && isSteady("worker") ? true : undefined), {
    timeoutMs: 30_000,
  });
}, 120_000);
afterAll(async () => {
  await bureau[Symbol.asyncDispose]();
  rmSync(root, { recursive: true, force: true });
}, 60_000);

const status = async (): Promise<MachineReport> => {
  const { stdout } = await bureau.run("status", "--json");
  return JSON.parse(stdout) as MachineReport;
};
const principal = async (name: string) => {
  const found = (await status()).principals?.find((one) => one.name === `agent/${name}`);
  return { state: found?.state, pid: found?.pid, started: found?.started_at };
};
const isSteady = (name: string): boolean => {
  const file = join(specHistoryDir(bureau.layout), `agent+${name}.json`);
  return existsSync(file) && readFileSync(file, "utf8").includes('"proved":true');
};
const agents = async () => [await principal("worker"), await principal("once")];

type Upgraded = { readonly outcome: string; readonly reason?: string };
const upgrade = async (path: string): Promise<Upgraded> => {
  const { stdout, stderr } = await bureau.run(
    ...["machine", "upgrade", "--local", "--host-env", path, "--wait", "--json"],
  );
  try {
    return JSON.parse(stdout) as Upgraded;
  } catch {
    throw new Error(`${stdout}${stderr}`);
  }
};

const record = (): string => {
  const { fleet } = JSON.parse(readFileSync(bureau.layout.instanceFile, "utf8")) as { fleet: string };
  return sandboxPaths(bureau.layout, parseFleet(fleet), parsePrincipalName("agent/worker")).record;
};
const formatOf = (path: string): number =>
  (JSON.parse(readFileSync(path, "utf8")) as { version: number }).version;
const formats = (): number[] =>
  [daemonStateFile(bureau.layout), upgradeStateFile(bureau.layout), record()].map(formatOf);

/** Everything but what every request leaves: its own entry in the history. */
function filesOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter(
      (path) =>
        statSync(path, { throwIfNoEntry: false })?.isFile() && basename(path) !== "upgrade-state.json",
    )
    .sort()
    .map((path) => `${path}: ${readFileSync(path, "utf8")}`);
}

async function refuses(path: string, reason: RegExp): Promise<void> {
  const before = [filesOf(bureau.layout.stateDir), await agents(), formats()];
  const { outcome, reason: said } = await upgrade(path);
  console.log(`refused: ${said}`);
  expect({ outcome, said }).toEqual({ outcome: "refused", said: expect.stringMatching(reason) });
  expect([filesOf(bureau.layout.stateDir), await agents(), formats()]).toEqual(before);
}

/** Upgrades to it, and checks that every agent and every recorded completion is unchanged. */
async function goes(path: string, format: number): Promise<void> {
  const before = await agents();
  expect(await upgrade(path)).toMatchObject({ outcome: "succeeded" });
  expect(realpathSync(bureau.layout.currentPrograms)).toBe(path);
  expect(formats()).toEqual([format, format, format]);
  expect(await agents()).toEqual(before);
}

test("no format is skipped: refuses a build without a way back, and changes nothing", async () => {
  await refuses(
    second,
    /writes format 2 .* there would be no way back; upgrade first .* bureau machine upgrade/u,
  );
});

test("the format changes one step at a time, up and down, and a build that cannot read it is refused", async () => {
  await goes(expanding, 1);
  await goes(second, 2);
  expect(readFileSync(daemonStateFile(bureau.layout), "utf8")).toContain('"done":[{"account":"agent/once"');
  await refuses(first, /reads format 1 of .* has written format 2; upgrade first/u);
  await goes(expanding, 1);
  await goes(first, 1);
  await goes(expanding, 1);
});

test("daemon and launcher killed during the trial: the previous build starts with the new build's files", async () => {
  const before = await agents();
  const upgrading = upgrade(second);
  await eventually(async () => (formats().every((format) => format === 2) ? true : undefined), {
    timeoutMs: 30_000,
  });
  expect(realpathSync(bureau.layout.currentPrograms)).toBe(expanding);
  end("lib/bureau-daemon", "lib/bureau-launcher");
  expect(await upgrading).toMatchObject({ outcome: "rolled-back" });
  await eventually(async () => ((await status()).machine?.state === "online" ? true : undefined));
  await eventually(async () => (Bun.deepEquals(await agents(), before) ? true : undefined), {
    describe: async () => `the agents are ${JSON.stringify(await agents())}`,
  });
  expect(formats()).toEqual([1, 1, 1]);
});

test("everything killed during the trial, as by a power cut: the next start restores everything", async () => {
  await bureau.json("machine", "upgrade", "--local", "--host-env", second);
  await eventually(async () => (formatOf(daemonStateFile(bureau.layout)) === 2 ? true : undefined), {
    timeoutMs: 30_000,
  });
  for (const process of bureau.processes()) signalProcess(process, "SIGKILL");
  await bureau.json("up");
  await eventually(async () => ((await principal("worker")).state === "running" ? true : undefined));
  expect(realpathSync(bureau.layout.currentPrograms)).toBe(expanding);
  await eventually(async () => ((await principal("once")).state === "completed" ? true : undefined));
  expect(formats()).toEqual([1, 1, 1]);
});

test("a program that does not know the format does not start and reports why", async () => {
  await goes(second, 2);
  for (const [name, folder] of [
    ["bureau-daemon", "stateDir"],
    ["bureau-launcher", "runDir"],
  ] as const) {
    const [copy, other] = [join(root, name), join(root, `${name}-other`)];
    await copyLive(bureau.layout[folder], copy, (path) => !isSpecial(path));
    const before = filesOf(copy);
    const dirs =
      folder === "stateDir" ? { state: copy, run: other } : { state: await stateFor(other), run: copy };
    const args = argsOf(name, dirs);
    const child = Bun.spawnSync([join(first, "bin", name), ...args], { timeout: 20_000 });
    const said = `${child.stdout}${child.stderr}`;
    expect(child.exitCode).toBe(1);
    expect(said).toMatch(/in format 2, and this version of Bureau reads format 1/u);
    expect(filesOf(copy)).toEqual(before);
  }
});

/** Key and session, because without them a launcher joins again. */
async function stateFor(folder: string): Promise<string> {
  await copyLive(bureau.layout.stateDir, folder, (path) => !path.endsWith(".lock"));
  return folder;
}

/** Copies a folder that programs change meanwhile; retries when a file disappears. */
const copyLive = (from: string, to: string, filter: (path: string) => boolean): Promise<true> =>
  eventually(async () => {
    rmSync(to, { recursive: true, force: true });
    try {
      cpSync(from, to, { recursive: true, filter });
      return true;
    } catch (error) {
      if (errnoOf(error) !== "ENOENT") throw error;
      return undefined;
    }
  });

const isSpecial = (path: string): boolean => {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat === undefined || !(stat.isFile() || stat.isDirectory());
};

const processOf = (part: string) =>
  bureau.processes().find(({ pid }) => argumentsOf(pid).some((word) => word.includes(part)));

function end(...parts: string[]): void {
  for (const process of parts.map(processOf)) if (process !== undefined) signalProcess(process, "SIGKILL");
}

/** As the running one was started, in other folders. */
function argsOf(name: string, dirs: { readonly state: string; readonly run: string }): string[] {
  const pid = processOf(`lib/${name}`)?.pid;
  const words = pid === undefined || identify(pid) === undefined ? [] : argumentsOf(pid);
  const args = words.slice(words.indexOf(programIn(words) ?? "") + 1);
  const instead = (flag: string, value: string, words: string[]): string[] =>
    words.map((word, index) => (words[index - 1] === flag ? value : word));
  return instead("--state-dir", dirs.state, instead("--run-dir", dirs.run, args));
}
