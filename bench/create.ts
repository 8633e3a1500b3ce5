/**
 * From the configuration to the agent's first instruction: a `machine_config` PUT that adds a principal, until
 * the file appears that the sandboxed program creates first. Beside it, interleaved: bubblewrap run by hand with the
 * same arguments as the launcher uses, until the same file appears.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, watch, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sandboxPaths } from "@bureau/os/layout";
import { parseFleet, parsePrincipalName, parseRoomAlias } from "@bureau/schema/refs";
import { createBureau, type TestBureau } from "@bureau/testkit/bureau";
import { type Figure, figure, quantile } from "./statistics.ts";

const ROUNDS = 30;
/** The first few warm caches on both sides. */
const WARM_UP = 3;
const COMMAND = "touch /workspace/first; sleep 1000";

type Assignment = { principal: string; template: string; auto_start: boolean; command_override: string[] };

export async function benchCreate(): Promise<Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), "bw-"));
  placeWrapper(folder);
  await using observed = createBureau({ env: { PATH: `${folder}:${process.env["PATH"]}` } });
  const byHand = await observeArguments(observed, folder);
  await using bureau = createBureau();
  await bureau.json("up");
  const { pool, others } = await preparePrincipals(bureau, ROUNDS + WARM_UP);
  const samples: { ours: number; floor: number }[] = [];
  for (const assignment of pool)
    samples.push({ ours: await timeCreate(bureau, assignment, others), floor: await timeByHand(byHand) });
  rmSync(folder, { recursive: true, force: true });
  const of = (kind: "ours" | "floor", fraction: number): number =>
    quantile(
      samples.slice(WARM_UP).map((sample) => sample[kind]),
      fraction,
    );
  const floor = (fraction: number) => ({ name: "the same bwrap by hand", value: of("floor", fraction) });
  return [
    figure("machine_config PUT to first instruction, p50", of("ours", 0.5), "ms", floor(0.5), "≤ 3×"),
    figure("machine_config PUT to first instruction, p95", of("ours", 0.95), "ms", floor(0.95)),
  ];
}

/**
 * Principals with account and credentials but without an assignment, so that only the PUT starts them; and the
 * permanent assignments, as on a machine in use.
 */
async function preparePrincipals(
  bureau: TestBureau,
  count: number,
): Promise<{ pool: Assignment[]; others: readonly unknown[] }> {
  const others = await assigned(bureau);
  const pool: Assignment[] = [];
  for (let index = 0; index < count; index++) {
    const created = await bureau.json<{ user_id: string }>(
      ...["agent", "create", `b${index}`, "--command", "exec sleep 1000"],
    );
    pool.push({
      principal: created.user_id,
      template: "bureau/template:agent",
      auto_start: true,
      command_override: ["/bin/sh", "-c", COMMAND],
    });
  }
  const { session, room, key } = await configOf(bureau);
  await session.putState(room, "m.bureau.machine_config", key, { principals: others });
  return { pool, others };
}

async function assigned(bureau: TestBureau): Promise<readonly unknown[]> {
  const { session, room, key } = await configOf(bureau);
  const config = (await session.getState(room, "m.bureau.machine_config", key)) as { principals: unknown[] };
  return config.principals;
}

async function configOf(bureau: TestBureau) {
  const session = bureau.session();
  const { machine } = await bureau.json<{ machine: { name: string } }>("status");
  const server = session.userId.slice(session.userId.indexOf(":") + 1);
  const room = await session.resolveAlias(parseRoomAlias(`#${machine.name}:${server}`));
  if (room === undefined) throw new Error(`no config room of ${machine.name}`);
  return { session, room, key: `${machine.name}:${server}` };
}

async function timeCreate(
  bureau: TestBureau,
  assignment: Assignment,
  others: readonly unknown[],
): Promise<number> {
  const account = parsePrincipalName(assignment.principal.split("/").slice(3).join("/").split(":")[0] ?? "");
  const file = join(bureau.layout.workspaceRoot, "home", account, "first");
  mkdirSync(join(file, ".."), { recursive: true });
  rmSync(file, { force: true });
  const { session, room, key } = await configOf(bureau);
  const seen = appears(file);
  const started = performance.now();
  await session.putState(room, "m.bureau.machine_config", key, { principals: [...others, assignment] });
  const elapsed = (await seen) - started;
  await session.putState(room, "m.bureau.machine_config", key, { principals: others });
  const paths = sandboxPaths(bureau.layout, parseFleet("bureau/fleet/local"), account);
  while (existsSync(paths.dir)) await Bun.sleep(5);
  // The next spare proxy is started by now.
  await Bun.sleep(100);
  return elapsed;
}

/** The launcher's arguments to bubblewrap for one agent, and the host path of that agent's /workspace. */
type ByHand = {
  readonly args: readonly string[];
  readonly workspace: string;
  readonly command: readonly string[];
};

/**
 * Captures bubblewrap's arguments: in a separate Bureau, a script that comes first on PATH keeps a copy of the
 * arguments. That Bureau stays up, so that every mounted path exists.
 */
async function observeArguments(bureau: TestBureau, folder: string): Promise<ByHand> {
  await bureau.json("up");
  await bureau.json("agent", "create", "by-hand", "--command", "exec sleep 1000");
  const args = readFileSync(join(folder, "args"), "utf8").split("\0").slice(0, -1);
  const workspace = join(bureau.layout.workspaceRoot, "home/agent/by-hand");
  return { args, workspace, command: ["/bin/sh", "-c", COMMAND] };
}

function placeWrapper(folder: string): void {
  const bwrap = Bun.which("bwrap");
  const script = `#!/bin/sh
case "$1" in --args) cat <&3 >'${folder}/args'; exec ${bwrap} "$@" 3<'${folder}/args' ;; *) exec ${bwrap} "$@" ;; esac
`;
  writeFileSync(join(folder, "bwrap"), script, { mode: 0o755 });
}

/** bubblewrap with the launcher's arguments, without launcher, tmux or proxy. */
async function timeByHand({ args, workspace, command }: ByHand): Promise<number> {
  const file = join(workspace, "first");
  rmSync(file, { force: true });
  const seen = appears(file);
  const started = performance.now();
  const child = Bun.spawn(["bwrap", ...args, "--", ...command], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "inherit",
  });
  const elapsed = (await seen) - started;
  child.kill("SIGKILL");
  await child.exited;
  return elapsed;
}

/** Resolves with the time at which the file was there. */
function appears(file: string): Promise<number> {
  return new Promise((resolve) => {
    const watcher = watch(join(file, ".."), () => {
      if (!existsSync(file)) return;
      const at = performance.now();
      watcher.close();
      resolve(at);
    });
  });
}

if (import.meta.main) console.log(JSON.stringify(await benchCreate(), null, 2));
