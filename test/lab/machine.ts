/**
 * One machine of a lab: Debian with systemd, booted by systemd-nspawn on a disk and a network of its own.
 *
 * Its state is read from the kernel each time: its first process, and so whether it is up. A
 * machine that reboots is switched on again, like a real one.
 */
import { closeSync, openSync, readFileSync } from "node:fs";
import { systemClock } from "@bureau/kit/clock";
import { assert, BureauError, messageOf } from "@bureau/kit/errors";
import { waitFor } from "@bureau/kit/wait-for";
import { identify, type ProcessId, signalProcess } from "@bureau/os/process-table";
import { runtimeArguments } from "@bureau/os/runtime-command";
import { isPopulated, killCgroup, makeCgroup, removeTree } from "./cgroup.ts";
import type { Enclosure } from "./enclosure.ts";
import { type CommandResult, describe, lastLines, quote } from "./execute.ts";
import { type Listing, type ListingOptions, listMachine } from "./listing.ts";
import { inGroup, type RunOptions, WayIn } from "./way-in.ts";

/** Where machines see the repository's build: `bin/bureau` and the other programs. */
export const buildInside = "/opt/bureau-build";
/** Where a test may show a machine other builds by a bind mount: below the folder from which upgrades take them. */
export const buildsInside = "/var/bureau/builds/lab";
/** The runtime for scripts inside a machine: that of the build. */
export const runtimeInside = [`${buildInside}/runtime/bun`, ...runtimeArguments].join(" ");

export type FileOptions = {
  /** Default 0644. */
  readonly mode?: number;
  /** `USER` or `USER:GROUP`; default root. */
  readonly owner?: string;
};

/** The parts of a machine; only `openLab` creates them. */
export type MachineParts = {
  readonly name: string;
  readonly address: string;
  readonly user: string;
  readonly enclosure: Enclosure;
  /** The disk's root, in the enclosure. */
  readonly root: string;
  readonly cgroup: string;
  readonly consoleFile: string;
  /** Host folder → where the machine sees it, read-only. */
  readonly binds: Readonly<Record<string, string>>;
  /** Called when the machine starts or stops. */
  readonly onChange: () => void;
};

/** A crowded two-core host boots a machine in a few seconds; half a second is usual. */
const BOOT_MS_MAX = 90_000;
const SHUTDOWN_MS_MAX = 120_000;
const EVENTUALLY_MS_MAX = 60_000;
const JOURNAL_LINES = 60;
/** While it waits to shut down it prints a line twice a second. */
const CONSOLE_LINES = 20;
/** With this systemd-nspawn says that the machine wants to be booted again (EXIT_FORCE_RESTART). */
const WANTS_REBOOT = 133;

export class Machine {
  readonly name: string;
  /** IPv4 address in the lab; machines know each other by name too. */
  readonly address: string;
  readonly #parts: MachineParts;
  /** Set while the machine is on; a new one for each boot. */
  #wayIn: WayIn | undefined;

  constructor(parts: MachineParts) {
    this.name = parts.name;
    this.address = parts.address;
    this.#parts = parts;
  }

  /** Runs a line of shell, as if `user` had logged in; the exit code is an answer. @throws BureauError `timeout` */
  async run(command: string, options: RunOptions = {}): Promise<CommandResult> {
    return await this.#on(`run "${command}"`).run(command, options.user ?? this.#parts.user, options);
  }

  /** {@link run}, which must exit 0; returns what it printed. @throws BureauError `failed` with its output */
  async ok(command: string, options: RunOptions = {}): Promise<string> {
    const result = await this.run(command, options);
    if (result.code === 0) return result.stdout;
    throw new BureauError("failed", describe(`${this.name}: ${command}`, result));
  }

  /** {@link ok}, and parses what it printed as JSON. */
  async json<T = unknown>(command: string, options: RunOptions = {}): Promise<T> {
    return JSON.parse(await this.ok(command, options)) as T;
  }

  /** Repeats the command until it exits 0; `timeoutMs` is the limit of all tries. Returns its output. */
  async eventually(command: string, options: RunOptions = {}): Promise<string> {
    const timeoutMs = options.timeoutMs ?? EVENTUALLY_MS_MAX;
    let last: CommandResult | undefined;
    const attempt = async (): Promise<CommandResult | undefined> => {
      last = await this.run(command, { ...options, timeoutMs });
      return last.code === 0 ? last : undefined;
    };
    const done = await waitFor(attempt, { timeoutMs, clock: systemClock });
    if (done !== undefined) return done.stdout;
    assert(last !== undefined, "a command that was awaited ran");
    const what = describe(`${this.name}: ${command}`, last);
    throw new BureauError("timeout", `Not within ${timeoutMs} ms: ${what}`);
  }

  /** A person's shell on this terminal; resolves with its exit code when they leave it. */
  async shell(user = this.#parts.user): Promise<number> {
    return await this.#on("open a shell").shell(user);
  }

  /** Makes or replaces a file, and the folders above it. */
  async writeFile(path: string, content: string | Uint8Array, options: FileOptions = {}): Promise<void> {
    const at = quote(path);
    const mode = (options.mode ?? 0o644).toString(8);
    const owner = quote(options.owner ?? "root:root");
    await this.ok(
      `set -e; mkdir -p -- "$(dirname -- ${at})"; : > ${at}; chown ${owner} ${at}; chmod ${mode} ${at}; cat > ${at}`,
      { user: "root", input: content },
    );
  }

  async readFile(path: string): Promise<string> {
    return await this.ok(`cat -- ${quote(path)}`, { user: "root" });
  }

  /** Everything on the disk, every account and every enabled unit: see listing.ts. */
  async listing(options: ListingOptions = {}): Promise<Listing> {
    const first = this.#on("list what it holds").firstProcess();
    assert(first !== undefined, "a machine that is on has a first process");
    return listMachine(`/proc/${first.pid}`, await this.ok(listUnits, { user: "root" }), options);
  }

  /** The end of the journal, of one unit or all; of the console when the machine is off. */
  async journal(unit?: string, lines = JOURNAL_LINES): Promise<string> {
    if (!this.isUp()) return this.console(lines);
    const only = unit === undefined ? "" : `--unit ${quote(unit)}`;
    const { stdout, stderr } = await this.run(`journalctl --no-pager --lines ${lines} ${only}`, {
      user: "root",
    });
    return `${stdout}${stderr}`;
  }

  /** The end of what was printed to the console, over all boots. */
  console(lines = JOURNAL_LINES): string {
    return lastLines(readFileSync(this.#parts.consoleFile, "utf8").replaceAll("\r", ""), lines);
  }

  isUp(): boolean {
    return this.#wayIn?.firstProcess() !== undefined;
  }

  /** The process on this host that holds the machine while it is on. */
  get holder(): ProcessId | undefined {
    return this.#wayIn?.holder;
  }

  /** Switches it on; resolves when every unit has started or failed. */
  async start(): Promise<void> {
    if (this.#wayIn !== undefined)
      throw new BureauError("conflict", `Cannot switch "${this.name}" on: it is on`);
    this.#switchOn();
    await this.#untilBooted(undefined);
  }

  /** Reboots it as an operator would, and waits until it is up again. */
  async reboot(): Promise<void> {
    const before = this.#on("reboot it").firstProcess();
    await this.run("systemctl reboot", { user: "root" });
    await this.#untilBooted(before);
  }

  /** Shuts it down in order; `start` switches it on again. */
  async shutdown(): Promise<void> {
    await this.run("systemctl poweroff", { user: "root" });
    await this.#untilOff();
  }

  /**
   * Ends every process at once. Written data is on the disk: the host's
   * kernel still has it, so this does not test unsynced data.
   */
  async unplug(): Promise<void> {
    const first = this.#wayIn?.firstProcess();
    // This ends everything in the machine. The holder process outside ends by itself: if killed too, it
    // could not reap its children, and they would remain.
    if (first === undefined || !signalProcess(first, "SIGKILL")) killCgroup(this.#parts.cgroup);
    await this.#untilOff();
  }

  /** {@link unplug}, then on again with the same disk. */
  async powerCut(): Promise<void> {
    await this.unplug();
    await this.start();
  }

  #on(act: string): WayIn {
    const wayIn = this.#wayIn;
    if (wayIn?.firstProcess() !== undefined) return wayIn;
    throw new BureauError("conflict", `Cannot ${act}: machine "${this.name}" is off`);
  }

  #switchOn(): void {
    const { enclosure, cgroup, consoleFile, onChange } = this.#parts;
    const console = openSync(consoleFile, "a");
    // A session of its own, so that Ctrl-C at the terminal does not reach the machine.
    const child = Bun.spawn(inGroup(makeCgroup(cgroup), enclosure.enter(this.#bootCommand())), {
      stdio: ["ignore", console, console],
      detached: true,
    });
    closeSync(console);
    const holder = identify(child.pid);
    const wayIn = holder === undefined ? undefined : new WayIn(holder, cgroup);
    this.#wayIn = wayIn;
    onChange();
    void child.exited.then((code) => {
      this.#wayIn = undefined;
      removeTree(cgroup);
      if (code === WANTS_REBOOT) this.#switchOn();
      else onChange();
    });
  }

  async #untilBooted(before: ProcessId | undefined): Promise<void> {
    const isBooted = async (): Promise<true | undefined> => {
      if (this.#wayIn === undefined) throw await this.#didNotBoot();
      const first = this.#wayIn.firstProcess();
      if (first === undefined || (before?.pid === first.pid && before.startTicks === first.startTicks))
        return;
      const asked = this.run("systemctl is-system-running --wait", { user: "root", timeoutMs: BOOT_MS_MAX });
      // A machine that is just coming up, or just going down, answers with an error of any kind.
      const { stdout } = await asked.catch(() => ({ stdout: "" }));
      return ["running", "degraded"].includes(stdout.trim()) ? true : undefined;
    };
    if ((await waitFor(isBooted, { timeoutMs: BOOT_MS_MAX, clock: systemClock })) === undefined)
      throw await this.#didNotBoot();
  }

  async #untilOff(): Promise<void> {
    const { cgroup } = this.#parts;
    const isOff = async (): Promise<true | undefined> =>
      this.#wayIn === undefined && !isPopulated(cgroup) ? true : undefined;
    if ((await waitFor(isOff, { timeoutMs: SHUTDOWN_MS_MAX, clock: systemClock })) !== undefined) return;
    const message = `Machine "${this.name}" is not off after ${SHUTDOWN_MS_MAX} ms. Its console:\n${this.console()}`;
    throw new BureauError("timeout", message);
  }

  #bootCommand(): string[] {
    const { root, binds } = this.#parts;
    return [
      ...["env", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "SYSTEMD_LOG_TARGET=console", "systemd-nspawn"],
      `--directory=${root}`,
      `--machine=${this.name}`,
      // Neither the host's systemd nor its machined, if there are any, need to know.
      ...["--register=no", "--keep-unit", "--settings=no"],
      `--network-namespace-path=/run/netns/${this.name}`,
      // Root has all rights inside, except those that change the host: its clock, its modules.
      ...[
        "--capability=all",
        "--drop-capability=CAP_SYS_MODULE,CAP_SYS_TIME",
        "--system-call-filter=@keyring",
      ],
      ...[
        "--console=read-only",
        "--setenv=SYSTEMD_COLORS=0",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
      ],
      ...Object.entries(binds).map(([host, inside]) => `--bind-ro=${host}:${inside}`),
      ...["--boot", "--", "--show-status=auto"],
    ];
  }

  async #didNotBoot(): Promise<BureauError> {
    const inside = this.isUp() ? await this.#whatHoldsItUp() : "";
    const console = this.console(CONSOLE_LINES);
    return new BureauError(
      "failed",
      `Machine "${this.name}" did not boot. ${inside}Its console:\n${console}`,
    );
  }

  /** The running jobs inside, while it still runs: its journal ends with it. */
  async #whatHoldsItUp(): Promise<string> {
    const look = `systemctl list-jobs --no-pager; ps axf -o pid,stat,wchan:24,etimes,args; journalctl --no-pager --lines ${JOURNAL_LINES}`;
    try {
      const { stdout, stderr } = await this.run(look, { user: "root", timeoutMs: 10_000 });
      return `Inside:\n${stdout}${stderr}`;
    } catch (error) {
      return `The machine does not answer: ${messageOf(error)}\n`;
    }
  }
}

/** Enabled units, one a line: name and state. */
const listUnits =
  "systemctl list-unit-files --no-legend --no-pager --state=enabled,enabled-runtime,linked,masked";
