/** An embedded homeserver as a process of its own, with what the kernel accounts for it. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runtimeCommand } from "@bureau/os/runtime-command";
import { cpuMs, pssMb } from "./memory.ts";

const TOKEN = "a-token-for-benchmarks";
/** A saturated homeserver answers no signal for long. */
const STOP_MS_MAX = 5_000;
const program = join(import.meta.dir, "../dist/current/lib/bureau-homeserver/main.js");

export class HomeserverProcess implements AsyncDisposable {
  readonly registrationToken = TOKEN;
  readonly serverName = "bureau.local";
  readonly #folder = mkdtempSync(join(tmpdir(), "bureau-bench-hs-"));
  #child: Bun.Subprocess | undefined;
  #address = "127.0.0.1:0";

  static async start(): Promise<HomeserverProcess> {
    const server = new HomeserverProcess();
    writeFileSync(join(server.#folder, "token"), TOKEN, { mode: 0o600 });
    await server.#run();
    return server;
  }

  get url(): string {
    return `http://${this.#address}`;
  }

  get usage(): ProcessUsage {
    return new ProcessUsage(this.#child?.pid ?? 0);
  }

  /** Bytes of its files. */
  get storedBytes(): number {
    const data = join(this.#folder, "data");
    return readdirSync(data).reduce((sum, name) => sum + statSync(join(data, name)).size, 0);
  }

  /** The same data at the same address, in a new process. */
  async restart(): Promise<void> {
    await this.#stop();
    await this.#run();
  }

  async #run(): Promise<void> {
    const data = join(this.#folder, "data");
    const flags = ["--data-dir", data, "--server-name", this.serverName, "--listen", this.#address];
    const child = Bun.spawn(
      runtimeCommand(program, ...flags, "--registration-token-file", join(this.#folder, "token")),
      { stdin: "ignore", stdout: "pipe", stderr: Bun.file(join(this.#folder, "stderr")) },
    );
    this.#child = child;
    const { value } = await child.stdout.getReader().read();
    const line = new TextDecoder().decode(value);
    if (line === "") throw new Error(readFileSync(join(this.#folder, "stderr"), "utf8"));
    this.#address = new URL((JSON.parse(line) as { url: string }).url).host;
  }

  async #stop(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    child.kill("SIGTERM");
    const killer = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
    await child.exited;
    clearTimeout(killer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** What the kernel accounts for a process. */
export class ProcessUsage {
  constructor(readonly pid: number) {}

  /** CPU milliseconds of its present threads, from the scheduler: finer than the 10 ms of /proc/PID/stat. */
  get cpuMs(): number {
    return cpuMs(this.pid);
  }

  get pssMb(): number {
    return pssMb(this.pid);
  }

  /** The largest resident memory since {@link ProcessUsage.forgetPeak}. */
  get peakMb(): number {
    const kb = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))?.[1];
    return Number(kb) / 1024;
  }

  forgetPeak(): void {
    writeFileSync(`/proc/${this.pid}/clear_refs`, "5");
  }
}
