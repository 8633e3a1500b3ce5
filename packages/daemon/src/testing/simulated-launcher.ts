/**
 * A launcher without processes: it keeps the contract of launcher-ipc.ts (level-triggered exits, one sandbox a
 * principal, records until they are cleared), is slow by chance, and can be down. What it is asked is handed to `observe`
 * first, which is where the simulator checks what a daemon may ask.
 */
import { BureauError, unreachable } from "@bureau/kit/errors";
import type {
  LauncherAction,
  LauncherRequest,
  LauncherResponse,
  SandboxExit,
  SandboxList,
  SandboxStatus,
} from "@bureau/schema/launcher-ipc";
import { type PrincipalName, parsePrincipalName } from "@bureau/schema/refs";
import type { HealthProbe } from "../health/health-probe.ts";
import type { Launcher } from "../launcher/launcher-client.ts";
import type { ProxyAdmin } from "../launcher/proxy-admin.ts";
import type { SeededRandom } from "./seeded-random.ts";
import type { SimulatedUpgrades } from "./simulated-upgrades.ts";
import type { TurnedClock } from "./turned-clock.ts";

export type SimulatedSandbox = {
  readonly account: PrincipalName;
  digests: { spec: string; payload: string };
  /** What the program would see. */
  command: readonly string[];
  payload: Readonly<Record<string, unknown>>;
  credentials: string;
  grants: string;
  state: "running" | "exited";
  exit: SandboxExit | undefined;
  proxyAlive: boolean;
  /** It was told to end: that it does is no exit of its own. */
  stopping: boolean;
  readonly startedAt: number;
  readonly pid: number;
  /** Its health check fails. */
  sick: boolean;
  wasSick: boolean;
};

type Create = LauncherRequest<"create-sandbox">;

export class SimulatedLauncher {
  readonly sandboxes = new Map<PrincipalName, SimulatedSandbox>();
  /** Being created, for a daemon that may have ended since. */
  readonly #creating = new Map<PrincipalName, Create>();
  up = true;
  /** Chance that a start fails, like one whose binary is missing. */
  startFailure = 0;
  /** Which build it runs from. */
  builds: SimulatedUpgrades | undefined;
  readonly #clock: TurnedClock;
  readonly #random: SeededRandom;
  #revision = 1;
  #run: string | undefined;
  /** Who changed, one a revision, up to the current one. */
  #changes: PrincipalName[] = [];
  /** The whole list behind each answer, which may have only changes. */
  readonly #whole = new WeakMap<object, readonly SandboxStatus[]>();
  #pid = 100;
  #changed = new AbortController();

  constructor(clock: TurnedClock, random: SeededRandom) {
    this.#clock = clock;
    this.#random = random;
  }

  /** The launcher for one daemon: once `isDead`, what it has begun to do is still carried out, but no answer arrives. */
  clientFor(
    isDead: () => boolean,
    observe: (
      action: LauncherAction,
      account: PrincipalName,
      about: { readonly isAlone: boolean; readonly request: object },
    ) => void,
    /** Receives the whole list behind each answer, which may have only changes. */
    onList: (whole: readonly SandboxStatus[]) => void = () => {},
  ): Launcher {
    const underWay = new Set<PrincipalName>();
    return {
      call: async (action, request) => {
        const account = "principal" in request ? parsePrincipalName(request.principal) : undefined;
        if (isDead()) return await never();
        if (account !== undefined) observe(action, account, { isAlone: !underWay.has(account), request });
        if (account !== undefined) underWay.add(account);
        try {
          const answer = await this.#answer(action, request, isDead);
          if (isDead()) return await never();
          if (action === "list-sandboxes") onList(this.#whole.get(answer as SandboxList) ?? []);
          return answer as LauncherResponse<typeof action>;
        } catch (error) {
          if (isDead()) return await never();
          throw error;
        } finally {
          if (account !== undefined) underWay.delete(account);
        }
      },
    };
  }

  isCreating(account: PrincipalName): boolean {
    return this.#creating.has(account);
  }

  proxiesFor(isDead: () => boolean): Pick<ProxyAdmin, "putGrants"> {
    return {
      putGrants: async (account, grants) => {
        await this.#delay();
        if (isDead()) return await never();
        const sandbox = this.sandboxes.get(account);
        if (sandbox?.state !== "running" || !sandbox.proxyAlive)
          throw new BureauError("unavailable", `the proxy of ${account} is away`);
        sandbox.grants = JSON.stringify(grants);
      },
    };
  }

  /** A program keeps running but fails its health check, or passes it again. */
  fallIll(account: PrincipalName, sick: boolean): void {
    const sandbox = this.sandboxes.get(account);
    if (sandbox === undefined) return;
    sandbox.sick = sick;
    sandbox.wasSick ||= sick;
  }

  /** Asks what runs how it is. A program of which `isBad` never works. */
  healthProbeWith(isBad: (sandbox: SimulatedSandbox) => boolean): HealthProbe {
    return async (account) => {
      await this.#delay();
      const sandbox = this.sandboxes.get(account);
      if (sandbox?.state !== "running") return "it does not run";
      if (isBad(sandbox)) this.fallIll(account, true);
      return sandbox.sick ? "it is sick" : undefined;
    };
  }

  /** A program ends by itself. */
  exit(account: PrincipalName, code: number): void {
    const sandbox = this.sandboxes.get(account);
    if (sandbox?.state !== "running" || sandbox.stopping) return;
    sandbox.state = "exited";
    sandbox.proxyAlive = false;
    sandbox.exit = { code, description: `exited with ${code}`, at: this.#clock.now() };
    this.#change(account);
  }

  killProxy(account: PrincipalName): void {
    const sandbox = this.sandboxes.get(account);
    if (sandbox?.state !== "running") return;
    sandbox.proxyAlive = false;
    this.#change(account);
  }

  /** The machine reboots: nothing runs any more, and no record is left. */
  reboot(): void {
    this.sandboxes.clear();
    this.#creating.clear();
    this.#restart();
    this.#wake();
  }

  async #answer(action: LauncherAction, request: object, isDead: () => boolean): Promise<unknown> {
    this.#mustBeUp();
    await this.builds?.beforeAnswer();
    // A stop is begun when it is asked for, so that whether the program had ended by then is certain.
    if (action !== "wait" && action !== "destroy-sandbox") await this.#delay();
    this.#mustBeUp();
    if (isDead()) return await never();
    const answer = await this.#act(action, request);
    // An answer is old by the time it is read.
    if (action === "list-sandboxes") await this.#delay();
    // It may go down after the deed and before the answer.
    this.#mustBeUp();
    return answer;
  }

  #act(action: LauncherAction, request: object): unknown {
    switch (action) {
      case "list-sandboxes":
        return this.#list((request as LauncherRequest<"list-sandboxes">).since);
      case "wait":
        return this.#wait(request as LauncherRequest<"wait">);
      case "create-sandbox":
        return this.#create(request as Create);
      case "destroy-sandbox":
        return this.#destroy(request as LauncherRequest<"destroy-sandbox">);
      case "update-payload":
        return this.#updatePayload(request as LauncherRequest<"update-payload">);
      case "restart-proxy":
        return this.#restartProxy(request as LauncherRequest<"restart-proxy">);
      case "status":
        return this.builds?.status();
      case "exec-update":
        return this.builds?.execUpdate(request as LauncherRequest<"exec-update">);
      case "watch-daemon":
        return this.builds?.watchDaemon(request as LauncherRequest<"watch-daemon">);
      case "watched-ok":
        return this.builds?.watchedOk();
      case "signal-sandbox":
      case "update-services":
      case "capture-output":
        throw new BureauError("unsupported", `the simulator has no ${action}`);
      default:
        return unreachable(action);
    }
  }

  /** A launcher that starts knows no revision of an earlier one. */
  #restart(): void {
    this.#revision = this.#random.below(1_000_000);
    this.#changes = [];
  }

  #list(since?: number): SandboxList {
    const run = this.builds?.launcherRun;
    if (run !== this.#run) this.#restart();
    this.#run = run;
    const whole = this.#known().map(statusOf);
    const missed = since === undefined ? -1 : this.#revision - since;
    const changed = new Set(missed <= 0 ? [] : this.#changes.slice(-missed));
    const isChanges = missed >= 0 && missed <= this.#changes.length;
    const sandboxes = isChanges ? whole.filter(({ principal }) => changed.has(principal)) : whole;
    const listed = new Set(sandboxes.map(({ principal }) => principal));
    const removed = [...changed].filter((account) => !listed.has(account));
    const answer = {
      revision: this.#revision,
      sandboxes,
      creating: [...this.#creating.keys()],
      ...(isChanges ? { since, removed } : {}),
    };
    this.#whole.set(answer, whole);
    return answer;
  }

  #known(): SimulatedSandbox[] {
    const isForgotten = ({ state, startedAt }: SimulatedSandbox): boolean =>
      state === "running" && this.builds?.forgets(startedAt) === true;
    return [...this.sandboxes.values()].filter((sandbox) => !isForgotten(sandbox));
  }

  async #wait({ since, timeout_ms }: LauncherRequest<"wait">): Promise<SandboxList> {
    if (this.#revision === since) await this.#clock.sleep(timeout_ms, this.#changed.signal);
    return this.#list(since);
  }

  async #create(request: Create): Promise<object> {
    const account = parsePrincipalName(request.principal);
    if (this.sandboxes.has(account) || this.#creating.has(account))
      throw new BureauError("conflict", `${account} has a sandbox`);
    this.#creating.set(account, request);
    // A busy host takes its time. Another daemon may run by then.
    await this.#clock.sleep(this.#random.below(this.#random.chance(0.1) ? 20_000 : 300));
    // A reboot meanwhile ends this request; the next one for the same principal is another.
    if (this.#creating.get(account) !== request) return await never();
    this.#creating.delete(account);
    this.#change(account);
    if (this.#random.chance(this.startFailure)) throw new BureauError("failed", "it would not start");
    this.sandboxes.set(account, {
      account,
      digests: request.digests,
      command: request.sandbox_spec.command ?? [],
      payload: request.sandbox_spec.payload ?? {},
      credentials: request.encrypted_credentials ?? "",
      grants: JSON.stringify(request.grants ?? []),
      state: "running",
      exit: undefined,
      proxyAlive: true,
      stopping: false,
      startedAt: this.#clock.now(),
      pid: this.#pid++,
      sick: false,
      wasSick: false,
    });
    this.#change(account);
    return { proxy_pid: this.#pid++ };
  }

  async #destroy(request: LauncherRequest<"destroy-sandbox">): Promise<object> {
    const account = parsePrincipalName(request.principal);
    const sandbox = this.sandboxes.get(account);
    if (sandbox === undefined) throw new BureauError("not-found", `${account} has no sandbox`);
    const { exit } = sandbox;
    sandbox.stopping = true;
    await this.#clock.sleep(this.#random.below(request.force === true ? 300 : (request.grace_ms ?? 0)));
    if (this.sandboxes.get(account) === sandbox) this.sandboxes.delete(account);
    this.#change(account);
    return exit === undefined ? {} : { exit };
  }

  #updatePayload(request: LauncherRequest<"update-payload">): object {
    const sandbox = this.#running(request.principal);
    const { account } = sandbox;
    sandbox.payload = request.payload;
    sandbox.digests = { ...sandbox.digests, payload: request.payload_digest };
    this.#change(account);
    return { signalled: false };
  }

  #restartProxy(request: LauncherRequest<"restart-proxy">): object {
    const sandbox = this.#running(request.principal);
    const { account } = sandbox;
    sandbox.proxyAlive = true;
    sandbox.credentials = request.encrypted_credentials ?? "";
    sandbox.grants = JSON.stringify(request.grants ?? []);
    this.#change(account);
    return { proxy_pid: this.#pid++ };
  }

  #running(principal: string): SimulatedSandbox {
    const sandbox = this.sandboxes.get(parsePrincipalName(principal));
    if (sandbox?.state !== "running") throw new BureauError("conflict", `${principal} does not run`);
    return sandbox;
  }

  #mustBeUp(): void {
    if (!this.up) throw new BureauError("unavailable", "the launcher is down");
  }

  #delay(): Promise<void> {
    return this.#clock.sleep(this.#random.below(300));
  }

  #change(account: PrincipalName): void {
    this.#revision++;
    this.#changes.push(account);
    // Now and then it forgets, as one does after many changes, and sends the whole list.
    if (this.#random.chance(0.05)) this.#changes = [];
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#changed;
    this.#changed = new AbortController();
    waiting.abort();
  }
}

/** The answer to a daemon that no longer exists. */
const never = (): Promise<never> => new Promise(() => {});

const statusOf = (sandbox: SimulatedSandbox): SandboxStatus => ({
  principal: sandbox.account,
  digests: sandbox.digests,
  state: sandbox.state,
  ...(sandbox.exit === undefined ? {} : { exit: sandbox.exit }),
  pid: sandbox.pid,
  proxy: { state: sandbox.proxyAlive ? "running" : "dead" },
  started_at: sandbox.startedAt,
});
