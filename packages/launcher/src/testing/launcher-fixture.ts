/**
 * Launchers for tests, each with its own folders and the real proxy, in this process or as a program that tests can kill.
 * Disposal ends every process that they started, also those of a killed launcher.
 */
import { mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Clock, systemClock } from "@bureau/kit/clock";
import { callCbor } from "@bureau/os/cbor-client";
import { writeDurably } from "@bureau/os/durable-file";
import {
  type Layout,
  launcherSocket,
  machineSessionFile,
  type SandboxPaths,
  sandboxPaths,
  tmuxSocket,
} from "@bureau/os/layout";
import { createLog } from "@bureau/os/log";
import { stopProcess, waitUntilGone } from "@bureau/os/process-end";
import {
  argumentsOf,
  findByArguments,
  identify,
  type ProcessId,
  signalProcess,
} from "@bureau/os/process-table";
import { runtimeCommand } from "@bureau/os/runtime-command";
import {
  type LauncherAction,
  type LauncherRequest,
  type LauncherResponse,
  launcherResponses,
  type SandboxStatus,
} from "@bureau/schema/launcher-ipc";
import { parseFleet, parseMachine, parsePrincipalName, parseServerName } from "@bureau/schema/refs";
import { Encrypter } from "age-encryption";
import type { BaseIssue, BaseSchema } from "valibot";
import { loadOrMakeMachineKey, type MachineKey } from "../keys.ts";
import { startLauncher } from "../launcher.ts";
import type { LauncherConfig } from "../launcher-config.ts";

// Proxies write to the test's own standard error.
process.env["BUREAU_LOG"] ??= "error";

const packages = resolve(import.meta.dirname, "../../..");
/** The proxy from source: tests need no build. */
export const PROXY_COMMAND = runtimeCommand(join(packages, "proxy/src/main.ts"));
const CONDITION_MS_MAX = 10_000;

export type SpecInput = LauncherRequest<"create-sandbox">["sandbox_spec"];

export class TestLauncher implements AsyncDisposable {
  readonly root = mkdtempSync("/tmp/bl-");
  readonly layout: Layout = {
    runDir: join(this.root, "run"),
    stateDir: join(this.root, "state"),
    workspaceRoot: join(this.root, "workspace"),
    cacheRoot: join(this.root, "cache"),
  };
  readonly config: LauncherConfig = {
    layout: this.layout,
    homeserverUrl: "http://127.0.0.1:1",
    machine: parseMachine("bureau/fleet/test/machine/box"),
    serverName: parseServerName("bureau.test"),
    fleet: parseFleet("bureau/fleet/test"),
    buildDir: join(this.root, "programs"),
    proxyCommand: PROXY_COMMAND,
    proxySocket: undefined,
    externalTerminals: false,
    operatorsGid: undefined,
    bootstrapFile: undefined,
    registrationTokenFile: undefined,
    firstBootOnly: false,
  };
  readonly logFile = join(this.root, "log");
  #running: AsyncDisposable | undefined;
  #program: ProcessId | undefined;
  #key: MachineKey | undefined;

  constructor() {
    for (const folder of [this.layout.runDir, this.layout.stateDir]) mkdirSync(folder, { mode: 0o700 });
    for (const folder of [this.layout.workspaceRoot, this.layout.cacheRoot])
      mkdirSync(folder, { mode: 0o755 });
    mkdirSync(join(this.config.buildDir, "bin"), { recursive: true });
  }

  /** In this process. */
  async start(
    proxyCommand: readonly string[] = PROXY_COMMAND,
    changes: Partial<LauncherConfig> = {},
    clock: Clock = systemClock,
  ): Promise<this> {
    const fd = openSync(this.logFile, "a");
    const log = createLog("bureau-launcher", { write: (line) => void Bun.write(Bun.file(fd), line) });
    this.#key = await loadOrMakeMachineKey(this.layout);
    this.#running = await startLauncher(
      { ...this.config, proxyCommand, ...changes },
      {
        clock,
        log,
        key: this.#key,
        random: Math.random,
        args: this.flags(),
        lockFd: fd,
      },
    );
    return this;
  }

  /** Starts it as a separate program; resolves when it answers. */
  async spawn(): Promise<ProcessId> {
    this.#key = await loadOrMakeMachineKey(this.layout);
    writeDurably(machineSessionFile(this.layout), "{}", 0o600);
    // The program finds the proxy in its programs folder: a shim like the build's.
    const shim = `#!/bin/sh\nexec ${PROXY_COMMAND.join(" ")} "$@"\n`;
    writeFileSync(join(this.config.buildDir, "bin/bureau-proxy"), shim, { mode: 0o755 });
    const fd = openSync(this.logFile, "a");
    const child = Bun.spawn(runtimeCommand(join(packages, "launcher/src/main.ts"), ...this.flags()), {
      stdin: "ignore",
      stdout: "ignore",
      stderr: fd,
      env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "/root" },
    });
    const id = identify(child.pid);
    if (id === undefined)
      throw new Error(`the launcher exited at once: ${readFileSync(this.logFile, "utf8")}`);
    this.#program = id;
    await this.until("the launcher answers", async () => {
      if (child.exitCode !== null)
        throw new Error(`the launcher exited: ${readFileSync(this.logFile, "utf8")}`);
      return await this.call("status", {}).then(
        ({ pid }) => pid === child.pid,
        () => false,
      );
    });
    return id;
  }

  /** Resolves when the launcher has cleared what earlier launchers left: any change waits for that. */
  async cleared(): Promise<void> {
    await this.call("destroy-sandbox", { principal: "agent/absent" }).catch(() => {});
  }

  flags(): string[] {
    const { layout, config } = this;
    return [
      ...["--machine-name", config.machine, "--server-name", config.serverName, "--fleet", config.fleet],
      ...["--homeserver", config.homeserverUrl, "--run-dir", layout.runDir, "--state-dir", layout.stateDir],
      ...["--workspace-root", layout.workspaceRoot, "--cache-root", layout.cacheRoot],
      ...["--programs-dir", config.buildDir],
    ];
  }

  /** SIGKILL to the program, which has no time to clean up. */
  async kill(): Promise<void> {
    if (this.#program === undefined) throw new Error("no launcher program runs");
    signalProcess(this.#program, "SIGKILL");
    await waitUntilGone(this.#program, 5_000, systemClock);
  }

  /** Ends the launcher in this process as SIGTERM would. */
  async stop(): Promise<void> {
    await this.#running?.[Symbol.asyncDispose]();
    this.#running = undefined;
  }

  call<Name extends LauncherAction>(
    action: Name,
    fields: LauncherRequest<Name>,
  ): Promise<LauncherResponse<Name>> {
    const schema: BaseSchema<unknown, unknown, BaseIssue<unknown>> = launcherResponses[action];
    return callCbor(launcherSocket(this.layout), { ...fields, action }, schema, {
      peer: "launcher",
    }) as Promise<LauncherResponse<Name>>;
  }

  /** Creates a sandbox that runs `script` in sh, or what `spec` says. */
  create(
    principal: string,
    script: string | undefined,
    extra: { spec?: Partial<SpecInput>; request?: Partial<LauncherRequest<"create-sandbox">> } = {},
  ): Promise<LauncherResponse<"create-sandbox">> {
    return this.call("create-sandbox", {
      principal,
      sandbox_spec: { command: script === undefined ? [] : ["/bin/sh", "-c", script], ...extra.spec },
      digests: { spec: "s1", payload: "p1" },
      ...extra.request,
    });
  }

  async seal(bundle: Record<string, string>): Promise<string> {
    const encrypter = new Encrypter();
    encrypter.addRecipient(this.#key?.publicKey ?? "");
    return Buffer.from(await encrypter.encrypt(JSON.stringify(bundle))).toString("base64");
  }

  paths(principal: string): SandboxPaths {
    return sandboxPaths(this.layout, this.config.fleet, parsePrincipalName(principal));
  }

  async status(principal: string): Promise<SandboxStatus | undefined> {
    return (await this.call("list-sandboxes", {})).sandboxes.find(
      (sandbox) => sandbox.principal === principal,
    );
  }

  /** Waits with `wait` until the principal's program has ended. */
  async exitOf(principal: string): Promise<SandboxStatus> {
    let { revision } = await this.call("list-sandboxes", {});
    for (;;) {
      const found = await this.status(principal);
      if (found?.state === "exited") return found;
      ({ revision } = await this.call("wait", { since: revision, timeout_ms: 10_000 }));
    }
  }

  async output(principal: string): Promise<string> {
    return (await this.call("capture-output", { principal, lines: 200 })).output;
  }

  /** Polls until `condition` holds; fails naming `what` after ten seconds. */
  async until(
    what: string,
    condition: () => boolean | Promise<boolean>,
    timeoutMs = CONDITION_MS_MAX,
  ): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    while (!(await condition())) {
      if (Date.now() > deadline) throw new Error(`timeout: not true in time: ${what}`);
      await systemClock.sleep(10);
    }
  }

  /** Every live process whose command line names this launcher's folder. */
  processes(): { pid: number; args: string[] }[] {
    return readdirSync("/proc")
      .filter((entry) => /^\d+$/.test(entry) && identify(Number(entry)) !== undefined)
      .map((entry) => ({ pid: Number(entry), args: argumentsOf(Number(entry)) }))
      .filter(({ args }) => args.some((arg) => arg.includes(this.root)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    if (this.#program !== undefined) await stopProcess(this.#program, 8_000, systemClock);
    await Bun.spawn(["tmux", "-S", tmuxSocket(this.layout), "kill-server"], { stderr: "ignore" }).exited;
    for (const id of findByArguments("--run-dir", this.layout.runDir))
      await stopProcess(id, 1_000, systemClock);
    rmSync(this.root, { recursive: true, force: true });
  }
}
