/** Agents that a `machine_config` PUT starts and stops, and the time until they do: what the benchmarks of creation share. */
import { existsSync, mkdirSync, rmSync, watch } from "node:fs";
import { join } from "node:path";
import type { MatrixSession } from "@bureau/matrix/session";
import { sandboxPaths } from "@bureau/os/layout";
import { parseFleet, parsePrincipalName, parseRoomAlias, type RoomId } from "@bureau/schema/refs";
import type { TestBureau } from "@bureau/testkit/bureau";
import { cpuMs } from "./memory.ts";

/** What the program of a timed agent runs: its first instruction makes a file. */
export const FIRST_INSTRUCTION = "touch /workspace/first; sleep 1000";

/** The spare proxy that replaces the used one is started after this time. */
const PAUSE_MS = 100;

export type Assignment = {
  readonly principal: string;
  readonly template: string;
  readonly auto_start: boolean;
  readonly command_override: readonly string[];
};

/** The times of one create and one destroy, in milliseconds. */
export type RoundTrip = { readonly create: number; readonly destroy: number };

/** The processes whose cost is measured. */
export type Programs = Readonly<Record<"daemon" | "launcher", { readonly pid: number }>>;

/** The same, with the CPU milliseconds that each program used for both. */
export type RoundTripCost = RoundTrip & Readonly<Record<keyof Programs, number>>;

/** The machine's configuration of a running instance, written past the command line. */
export class AssignedAgents {
  readonly #bureau: TestBureau;
  readonly #session: MatrixSession;
  readonly #room: RoomId;
  readonly #key: string;
  /** What the machine runs between two measurements. */
  #others: readonly unknown[];

  private constructor(bureau: TestBureau, session: MatrixSession, room: RoomId, key: string, now: unknown[]) {
    [this.#bureau, this.#session, this.#room, this.#key] = [bureau, session, room, key];
    this.#others = now;
  }

  static async open(bureau: TestBureau): Promise<AssignedAgents> {
    const session = bureau.session();
    const { machine } = await bureau.json<{ machine: { name: string } }>("status");
    const server = session.userId.slice(session.userId.indexOf(":") + 1);
    const room = await session.resolveAlias(parseRoomAlias(`#${machine.name}:${server}`));
    if (room === undefined) throw new Error(`no config room of ${machine.name}`);
    const key = `${machine.name}:${server}`;
    const config = (await session.getState(room, "m.bureau.machine_config", key)) as {
      principals: unknown[];
    };
    return new AssignedAgents(bureau, session, room, key, config.principals);
  }

  /** Makes `count` agents with account and credentials, but without an assignment: only a PUT starts them. */
  async prepare(prefix: string, count: number): Promise<Assignment[]> {
    const prepared: Assignment[] = [];
    for (let index = 0; index < count; index++) {
      const created = await this.#bureau.json<{ user_id: string }>(
        ...["agent", "create", `${prefix}${index}`, "--no-wait", "--command", "exec sleep 1000"],
      );
      prepared.push({
        principal: created.user_id,
        template: "bureau/template:agent",
        auto_start: true,
        command_override: ["/bin/sh", "-c", FIRST_INSTRUCTION],
      });
    }
    await this.#put(this.#others);
    for (const assignment of prepared) await this.#gone(assignment);
    return prepared;
  }

  /** One PUT starts all; resolves with the milliseconds from the PUT until the last one's first instruction. They stay. */
  async start(assignments: readonly Assignment[]): Promise<number> {
    const seen = assignments.map((assignment) => appears(this.#firstFile(assignment)));
    const started = performance.now();
    this.#others = [...this.#others, ...assignments];
    await this.#put(this.#others);
    return Math.max(...(await Promise.all(seen))) - started;
  }

  /** Starts one agent and removes it, each by a PUT. Ends when the machine is as it was. */
  async roundTrip(assignment: Assignment): Promise<RoundTrip> {
    const seen = appears(this.#firstFile(assignment));
    const started = performance.now();
    await this.#put([...this.#others, assignment]);
    const create = (await seen) - started;
    const removed = performance.now();
    await this.#put(this.#others);
    await this.#gone(assignment);
    const destroy = performance.now() - removed;
    await Bun.sleep(PAUSE_MS);
    return { create, destroy };
  }

  /** A round trip, and what these programs use for it. */
  async cost(assignment: Assignment, { daemon, launcher }: Programs): Promise<RoundTripCost> {
    const used = () => ({ daemon: cpuMs(daemon.pid), launcher: cpuMs(launcher.pid) });
    const before = used();
    const times = await this.roundTrip(assignment);
    const after = used();
    return { ...times, daemon: after.daemon - before.daemon, launcher: after.launcher - before.launcher };
  }

  async #put(principals: readonly unknown[]): Promise<void> {
    await this.#session.putState(this.#room, "m.bureau.machine_config", this.#key, { principals });
  }

  async #gone(assignment: Assignment): Promise<void> {
    const { dir } = sandboxPaths(this.#bureau.layout, parseFleet("bureau/fleet/local"), nameOf(assignment));
    while (existsSync(dir)) await Bun.sleep(1);
  }

  /** The file that the agent's first instruction makes; it is absent afterwards. */
  #firstFile(assignment: Assignment): string {
    const file = join(this.#bureau.layout.workspaceRoot, "home", nameOf(assignment), "first");
    mkdirSync(join(file, ".."), { recursive: true });
    rmSync(file, { force: true });
    return file;
  }
}

/** `@bureau/fleet/local/agent/b1:server` → `agent/b1`. */
const nameOf = ({ principal }: Assignment) =>
  parsePrincipalName(principal.split("/").slice(3).join("/").split(":")[0] ?? "");

/** Resolves with the time at which the file was there. */
export function appears(file: string): Promise<number> {
  return new Promise((resolve) => {
    const watcher = watch(join(file, ".."), () => {
      if (!existsSync(file)) return;
      const at = performance.now();
      watcher.close();
      resolve(at);
    });
  });
}
