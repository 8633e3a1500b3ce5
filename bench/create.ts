/**
 * From writing the configuration to the agent's first instruction: a `machine_config` PUT that adds a principal, until
 * a file appears that the sandboxed program makes first thing. Beside it, interleaved: bubblewrap run by hand with the
 * same namespaces, mounts and program, until the same file appears.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, watch } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sandboxPaths } from "@bureau/kit/layout";
import { parseAccountLocalpart, parseFleet } from "@bureau/schema/refs";
import { createBureau, type TestBureau } from "@bureau/testkit/bureau";
import { type Figure, figure, quantile } from "./statistics.ts";

const ROUNDS = 30;

type Assignment = { principal: string; template: string; auto_start: boolean; command_override: string[] };

export async function benchCreate(): Promise<Figure[]> {
  await using bureau = createBureau();
  await bureau.json("up");
  const pool = await preparePrincipals(bureau, ROUNDS + 3);
  const ours: number[] = [];
  const byHand: number[] = [];
  for (const [index, assignment] of pool.entries()) {
    const mine = await timeCreate(bureau, assignment);
    const floor = await timeByHand(bureau, assignment);
    // The first few warm caches on both sides.
    if (index >= 3) {
      ours.push(mine);
      byHand.push(floor);
    }
  }
  const floor = (fraction: number) => ({ name: "the same bwrap by hand", value: quantile(byHand, fraction) });
  return [
    figure("machine_config PUT to first instruction, p50", quantile(ours, 0.5), "ms", floor(0.5), "≤ 3×"),
    figure("machine_config PUT to first instruction, p95", quantile(ours, 0.95), "ms", floor(0.95)),
  ];
}

/** Principals with account and credentials, assigned to nothing, so that the PUT alone is what starts them. */
async function preparePrincipals(bureau: TestBureau, count: number): Promise<Assignment[]> {
  const pool: Assignment[] = [];
  for (let index = 0; index < count; index++) {
    const command = "touch /workspace/first; sleep 1000";
    const name = `b${index}`;
    const created = await bureau.json<{ user_id: string }>(
      ...["agent", "create", name, "--command", "exec sleep 1000"],
    );
    pool.push({
      principal: created.user_id,
      template: "bureau/template:agent",
      auto_start: true,
      command_override: ["/bin/sh", "-c", command],
    });
  }
  await putPrincipals(bureau, []);
  return pool;
}

async function putPrincipals(bureau: TestBureau, principals: readonly Assignment[]): Promise<void> {
  const session = bureau.session();
  const { machine } = await bureau.json<{ machine: { name: string } }>("status");
  const server = session.userId.slice(session.userId.indexOf(":") + 1);
  const key = `${machine.name}:${server}`;
  await bureau.json(
    "matrix",
    "state",
    "set",
    machine.name,
    "m.bureau.machine_config",
    JSON.stringify({ principals }),
    "--key",
    key,
  );
}

async function timeCreate(bureau: TestBureau, assignment: Assignment): Promise<number> {
  const account = parseAccountLocalpart(
    assignment.principal.split("/").slice(3).join("/").split(":")[0] ?? "",
  );
  const file = join(bureau.layout.workspaceRoot, "home", account, "first");
  mkdirSync(join(file, ".."), { recursive: true });
  rmSync(file, { force: true });
  const session = bureau.session();
  const { machine } = await bureau.json<{ machine: { name: string } }>("status");
  const room = (await session.joinedRooms()).length > 0 ? await roomOf(bureau, machine.name) : "";
  const key = `${machine.name}:${session.userId.slice(session.userId.indexOf(":") + 1)}`;
  const seen = appears(file);
  const started = performance.now();
  await session.putState(room as never, "m.bureau.machine_config", key, { principals: [assignment] });
  const elapsed = (await seen) - started;
  await session.putState(room as never, "m.bureau.machine_config", key, { principals: [] });
  const paths = sandboxPaths(bureau.layout, parseFleet("bureau/fleet/local"), account);
  while (existsSync(paths.dir)) await Bun.sleep(5);
  await Bun.sleep(60);
  return elapsed;
}

async function roomOf(bureau: TestBureau, localpart: string): Promise<string> {
  const { rooms } = await bureau.json<{ rooms: { alias: string; room_id: string }[] }>(
    "matrix",
    "room",
    "list",
  );
  const found = rooms.find(({ alias }) => alias.startsWith(`#${localpart}:`));
  if (found === undefined) throw new Error(`no room ${localpart}`);
  return found.room_id;
}

/** bubblewrap as the launcher calls it, without launcher, terminal or proxy. */
async function timeByHand(bureau: TestBureau, assignment: Assignment): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "bw-"));
  const links = ["bin", "lib", "lib64", "sbin"].flatMap((name) => ["--symlink", `usr/${name}`, `/${name}`]);
  const seen = appears(join(folder, "first"));
  const started = performance.now();
  const child = Bun.spawn(
    [
      "bwrap",
      ...[
        "--unshare-user",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
      ],
      ...[
        "--die-with-parent",
        "--new-session",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--ro-bind",
        "/usr",
        "/usr",
        ...links,
      ],
      ...[
        "--tmpfs",
        "/tmp",
        "--ro-bind",
        bureau.layout.runDir,
        "/run/bureau",
        "--bind",
        folder,
        "/workspace",
      ],
      ...[
        "--clearenv",
        "--setenv",
        "PATH",
        "/usr/bin:/bin",
        "--chdir",
        "/workspace",
        "--",
        ...assignment.command_override,
      ],
    ],
    { stdin: "ignore", stdout: "ignore", stderr: "inherit" },
  );
  const elapsed = (await seen) - started;
  child.kill("SIGKILL");
  await child.exited;
  rmSync(folder, { recursive: true, force: true });
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

if (import.meta.main)
  console.log(JSON.stringify(await benchCreate(), null, 2), readFileSync("/proc/loadavg", "utf8").trim());
