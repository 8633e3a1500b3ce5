/**
 * The cost of an idle Bureau: memory of each program, memory per sandbox without its agent, and CPU while nothing
 * happens. Sandboxes run `sleep`, so nearly all that is counted is ours.
 */
import { childrenOf, descendantsOf } from "@bureau/os/process-table";
import { createBureau, type TestBureau } from "@bureau/testkit/bureau";
import { cpuShare, pssMb } from "./memory.ts";
import { type Figure, figure } from "./statistics.ts";

const SANDBOXES = 50;
const IDLE_MS = 30_000;

type Status = Record<"homeserver" | "launcher" | "daemon" | "supervisor", { pid: number }> & {
  principals: { name: string; pid?: number; proxy_pid?: number; state: string }[];
};

export async function benchFootprint(): Promise<Figure[]> {
  await using bureau = createBureau();
  await bureau.json("up");
  await bureau.json("agent", "destroy", "greeter");
  const started = performance.now();
  for (let index = 0; index < SANDBOXES; index++)
    await bureau.json("agent", "create", `s${index}`, "--command", "exec sleep 100000");
  const seconds = (performance.now() - started) / 1000;
  const status = await allRunning(bureau);
  const programs = ["homeserver", "launcher", "daemon", "supervisor"] as const;
  const idle = await cpuShare(
    programs.map((name) => status[name].pid),
    () => Bun.sleep(IDLE_MS),
  );
  const proxyIdle = await cpuShare(
    status.principals.flatMap(({ proxy_pid }) => proxy_pid ?? []),
    () => Bun.sleep(5_000),
  );
  const memory = Object.fromEntries(programs.map((name) => [name, pssMb(status[name].pid)])) as Record<
    (typeof programs)[number],
    number
  >;
  const perSandbox = sandboxMemory(bureau, status);
  return [
    figure("launcher and daemon, memory (PSS)", memory.launcher + memory.daemon, "MB", undefined, "≤ 60 MB"),
    ...programs.map((name) => figure(`${name}, memory (PSS)`, memory[name], "MB")),
    figure(
      `per sandbox beyond its agent, memory (PSS), of ${SANDBOXES}`,
      perSandbox.total,
      "MB",
      undefined,
      "≤ 8 MB",
    ),
    figure("  of it the proxy", perSandbox.proxy, "MB"),
    figure(
      `idle CPU of the four programs with ${SANDBOXES} sandboxes, ${IDLE_MS / 1000} s`,
      idle * 100,
      "% of a core",
    ),
    figure(`idle CPU of the ${SANDBOXES} proxies`, proxyIdle * 100, "% of a core"),
    figure(`making ${SANDBOXES} agents one after the other, each until it runs`, seconds, "s"),
  ];
}

async function allRunning(bureau: TestBureau): Promise<Status> {
  for (;;) {
    const status = await bureau.json<Status>("status");
    if (status.principals.filter(({ state }) => state === "running").length >= SANDBOXES) return status;
    await Bun.sleep(200);
  }
}

/** Proxy, shell, bubblewrap and a share of the tmux server; the agent itself is not counted. */
function sandboxMemory(bureau: TestBureau, status: Status): { total: number; proxy: number } {
  const agents = new Set(status.principals.flatMap(({ pid }) => pid ?? []));
  const proxies = status.principals.flatMap(({ proxy_pid }) => proxy_pid ?? []);
  const tmux = bureau.processes().filter(({ pid }) => childrenOf(pid).length >= SANDBOXES / 2);
  const below = (pid: number): number[] => descendantsOf(pid).map((process) => process.pid);
  const around = tmux.flatMap(({ pid }) => [pid, ...below(pid)]).filter((pid) => !agents.has(pid));
  const sum = (pids: readonly number[]): number => pids.reduce((total, pid) => total + pssMb(pid), 0);
  const own = [...new Set(around)].filter((pid) => !proxies.includes(pid));
  return { total: (sum(own) + sum(proxies)) / SANDBOXES, proxy: sum(proxies) / SANDBOXES };
}

if (import.meta.main) console.log(JSON.stringify(await benchFootprint(), null, 2));
