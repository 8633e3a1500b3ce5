/**
 * One control group (cgroups(7), version 2) for each sandbox: limits its total usage, and kills all its processes at once.
 *
 * The groups are in a delegated folder of the hierarchy: systemd's unit of the tmux server, or the scope of the tmux
 * server, or, without a service manager, a group that root creates. The tmux server itself is in a leaf beside them,
 * because a group with controllers for its children holds no process.
 *
 * Without such a folder sandboxes run without groups, and {@link ControlGroups.fact} has the reason. With one, a sandbox
 * that cannot enter its group does not start.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Clock } from "@bureau/kit/clock";
import { BureauError, errnoOf, messageOf } from "@bureau/kit/errors";
import { identify, isAlive, type ProcessId } from "@bureau/os/process-table";
import type { LimitsFact } from "@bureau/schema/launcher-ipc";
import { PIDS_OF_BWRAP, type ResourceLimits } from "./resource-limits.ts";

/** Mount points of version 2: alone, or beside version 1. */
const HIERARCHIES = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
const CONTROLLERS = ["memory", "pids", "cpu"] as const;
type Controller = (typeof CONTROLLERS)[number];
/** The leaf of the tmux server; systemd's unit has the same name (`DelegateSubgroup=`). */
const TMUX_LEAF = "terminals";
/** Name prefix of a tmux server's scope; an id follows. */
export const SCOPE_PREFIX = "bureau-terminals-";
/** The next round moves processes that started during this one. */
const MOVE_ROUNDS_MAX = 20;
/** The kernel empties a killed group within milliseconds. */
const REMOVE_MS_MAX = 5_000;

export class ControlGroups {
  readonly #id: string;
  readonly #hierarchy: string | undefined;
  #base: string | undefined;
  #enforced: readonly Controller[] = [];
  #reason = "the tmux server does not run yet";
  #server: ProcessId | undefined;

  /** `id` names the installation among others of the host. */
  constructor(id: string, hierarchies: readonly string[] = HIERARCHIES) {
    this.#id = id;
    this.#hierarchy = hierarchies.find((path) => existsSync(join(path, "cgroup.controllers")));
  }

  get fact(): LimitsFact {
    if (this.#base === undefined) return { level: "none", reason: this.#reason };
    const missing = CONTROLLERS.filter((name) => !this.#enforced.includes(name));
    if (missing.length === 0) return { level: "enforced" };
    const level = missing.length === CONTROLLERS.length ? "grouped" : "partly";
    return { level, reason: `without ${missing.join(", ")}: ${this.#reason}` };
  }

  /** True while the result of {@link prepare} is valid: another tmux server may have another folder. */
  get isPrepared(): boolean {
    if (this.#server === undefined || !isAlive(this.#server)) return false;
    if (this.#base === undefined) return true;
    const now = words(join(this.#base, "cgroup.subtree_control"));
    return now !== undefined && this.#enforced.every((name) => now.includes(name));
  }

  /** Finds the delegated folder from the tmux server's group, and enables its controllers for the sandboxes' groups. */
  prepare(serverPid: number): void {
    this.#server = identify(serverPid);
    this.#base = undefined;
    this.#enforced = [];
    try {
      this.#base = this.#findBase(serverPid);
    } catch (error) {
      this.#reason = messageOf(error);
    }
    if (this.#base === undefined) return;
    const available = words(join(this.#base, "cgroup.controllers")) ?? [];
    this.#reason = "the kernel or the host's service manager does not delegate them";
    const wanted = CONTROLLERS.filter((name) => available.includes(name));
    for (const name of wanted) this.#enable(this.#base, name);
    const enabled = words(join(this.#base, "cgroup.subtree_control")) ?? [];
    this.#enforced = CONTROLLERS.filter((name) => enabled.includes(name));
  }

  /** One write for each: in a common write, one missing controller would disable the others. */
  #enable(folder: string, name: Controller): void {
    try {
      writeFileSync(join(folder, "cgroup.subtree_control"), `+${name}`);
    } catch (error) {
      this.#reason = messageOf(error);
    }
  }

  /** The delegated folder, with no process in it; undefined when there is none. */
  #findBase(serverPid: number): string | undefined {
    if (this.#hierarchy === undefined) {
      this.#reason = "cgroup version 2 is not mounted";
      return undefined;
    }
    const own = groupOf(serverPid);
    if (own === undefined || own.startsWith("/..")) {
      this.#reason = "the tmux server's control group is not visible here";
      return undefined;
    }
    if (own === "/" && process.getuid?.() === 0) return this.#makeAtRoot(this.#hierarchy);
    const folder = join(this.#hierarchy, own);
    if (basename(own) === TMUX_LEAF) return dirname(folder);
    if (basename(own).startsWith(SCOPE_PREFIX)) {
      moveToLeaf(folder);
      return folder;
    }
    this.#reason = `no control group is delegated to Bureau here: the tmux server is in "${own}"`;
    return undefined;
  }

  /** Without a service manager all processes are in the root group: root creates a group beside them. */
  #makeAtRoot(hierarchy: string): string {
    const available = words(join(hierarchy, "cgroup.controllers")) ?? [];
    for (const name of CONTROLLERS) if (available.includes(name)) this.#enable(hierarchy, name);
    const base = join(hierarchy, `bureau-${this.#id}`);
    mkdirSync(base, { recursive: true });
    return base;
  }

  /**
   * Creates the empty group of a sandbox, and returns its folder; undefined where there are no groups. Ends the processes of
   * an old group with that name. @throws BureauError when a limit cannot be set
   */
  async make(name: string, limits: ResourceLimits, clock: Clock): Promise<string | undefined> {
    if (this.#base === undefined) return undefined;
    await this.remove(name, clock);
    const folder = join(this.#base, name);
    try {
      mkdirSync(folder);
      for (const [file, value] of this.#settings(limits)) {
        // Kernels without swap have no file for it.
        if (file === "memory.swap.max" && !existsSync(join(folder, file))) continue;
        writeFileSync(join(folder, file), value);
      }
    } catch (error) {
      await this.remove(name, clock);
      throw new BureauError("failed", `Cannot create the control group "${folder}"`, { cause: error });
    }
    return folder;
  }

  #settings({ memoryBytes, pids, cpuWeight }: ResourceLimits): [string, string][] {
    const settings: Record<Controller, [string, string][]> = {
      memory: [
        ["memory.max", String(memoryBytes)],
        ["memory.swap.max", "0"],
        // A program seldom handles the loss of one process to the limit: kill the whole group.
        ["memory.oom.group", "1"],
      ],
      pids: [["pids.max", String(pids + PIDS_OF_BWRAP)]],
      cpu: [["cpu.weight", String(cpuWeight)]],
    };
    return this.#enforced.flatMap((name) => settings[name]);
  }

  /** Kills every process of the group, including one that is starting. Does nothing without a group. */
  kill(name: string): void {
    for (const folder of this.#foldersOf(name)) writeIfThere(join(folder, "cgroup.kill"), "1");
  }

  /** Ends all processes of the group and removes it. @throws BureauError when a process does not die */
  async remove(name: string, clock: Clock): Promise<void> {
    const deadline = clock.monotonic() + REMOVE_MS_MAX;
    for (const folder of this.#foldersOf(name))
      for (let waitMs = 1; existsSync(folder); waitMs = Math.min(waitMs * 1.5, 50)) {
        writeIfThere(join(folder, "cgroup.kill"), "1");
        if (tryRemove(folder)) break;
        if (clock.monotonic() > deadline)
          throw new BureauError("failed", `The control group "${folder}" does not become empty`);
        await clock.sleep(waitMs);
      }
  }

  /** True when the kernel killed a process of the group because memory ran out. */
  ranOutOfMemory(name: string): boolean {
    return this.#foldersOf(name).some((folder) =>
      /^oom_kill [1-9]/m.test(textOf(join(folder, "memory.events")) ?? ""),
    );
  }

  /** Removes the folder that this launcher created at the hierarchy's root, when no sandbox is left in it. */
  [Symbol.dispose](): void {
    if (this.#base !== undefined && basename(this.#base) === `bureau-${this.#id}`) tryRemove(this.#base);
  }

  #foldersOf(name: string): string[] {
    if (this.#base === undefined) return [];
    const folder = join(this.#base, name);
    return existsSync(folder) ? [folder] : [];
  }
}

/** The group of a process, from `/proc/<pid>/cgroup`. */
export const groupOf = (pid: number): string | undefined =>
  /^0::(.*)$/m.exec(textOf(`/proc/${pid}/cgroup`) ?? "")?.[1];

/** A group with controllers for its children must hold no process itself. */
function moveToLeaf(folder: string): void {
  const leaf = join(folder, TMUX_LEAF);
  mkdirSync(leaf, { recursive: true });
  for (let round = 0; round < MOVE_ROUNDS_MAX; round++) {
    const pids = words(join(folder, "cgroup.procs")) ?? [];
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        writeFileSync(join(leaf, "cgroup.procs"), pid);
      } catch (error) {
        // The process has ended.
        if (errnoOf(error) !== "ESRCH") throw error;
      }
    }
  }
}

const textOf = (path: string): string | undefined => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
};

const words = (path: string): string[] | undefined =>
  textOf(path)
    ?.split(/\s+/)
    .filter((word) => word !== "");

/** Kernels before 5.14 have no `cgroup.kill`: there the launcher kills each process. */
function writeIfThere(path: string, text: string): void {
  try {
    if (existsSync(path)) writeFileSync(path, text);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT" && errnoOf(error) !== "ENODEV") throw error;
  }
}

/** Removes the group and the groups in it, innermost first; false while a process is in one of them. */
function tryRemove(folder: string): boolean {
  try {
    for (const entry of readdirSync(folder, { withFileTypes: true }))
      if (entry.isDirectory() && !tryRemove(join(folder, entry.name))) return false;
    rmdirSync(folder);
    return true;
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return true;
    if (errnoOf(error) === "EBUSY") return false;
    throw error;
  }
}
