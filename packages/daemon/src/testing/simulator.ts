/**
 * A machine in a world of chance: the real desired state, plan, reconcile loop, memory and room directory, between a
 * simulated launcher and simulated rooms, on a clock that is turned by hand. Everything that can happen to it happens in
 * random order; what must never happen is checked at every request, what must come about when the world calms down.
 */
import { RoomStateStore } from "@bureau/matrix/room-state";
import { silentLog } from "@bureau/os/testing/silent-log";
import { eventTypes } from "@bureau/schema/events";
import type { LauncherAction, LauncherRequest, SandboxStatus } from "@bureau/schema/launcher-ipc";
import {
  type PrincipalName,
  parseMachine,
  parsePrincipalName,
  parseServerName,
  stateKeyOf,
  type UserId,
  userIdOf,
} from "@bureau/schema/refs";
import type { Desired, WantedSandbox } from "../desired/desired.ts";
import { DesiredResolver } from "../desired/desired-resolver.ts";
import { DesiredSource } from "../desired/desired-source.ts";
import { HealthMonitor } from "../health/health-monitor.ts";
import { ReconcileState } from "../reconcile/reconcile-state.ts";
import { Reconciler } from "../reconcile/reconciler.ts";
import { type Choice, chooseSandbox } from "../reconcile/rollback.ts";
import { type HistoryFiles, SpecHistory } from "../reconcile/spec-history.ts";
import { RoomDirectory } from "../sync/room-directory.ts";
import type { Upgrader } from "../upgrade/upgrader.ts";
import { noMembers } from "./no-members.ts";
import { SeededRandom } from "./seeded-random.ts";
import { SimulatedLauncher, type SimulatedSandbox } from "./simulated-launcher.ts";
import { conditionAlias, configRoom, SimulatedRooms } from "./simulated-rooms.ts";
import { SimulatedUpgrades } from "./simulated-upgrades.ts";
import { TurnedClock } from "./turned-clock.ts";

const machine = parseMachine("bureau/fleet/test/machine/box");
const server = parseServerName("bureau.test");
const userOf = (account: string): UserId => userIdOf(`bureau/fleet/test/${account}` as never, server);
const machineKey = stateKeyOf(userIdOf(machine, server));

/** Work under `never`, and principals that always run. */
const jobs = ["agent/job-a", "agent/job-b", "agent/job-c"].map(parsePrincipalName);
const agents = ["agent/x", "agent/y", "agent/z", "agent/w"].map(parsePrincipalName);
const accounts = [...jobs, ...agents];

/** What the operator means by one principal. */
type Intent = {
  assigned: boolean;
  autoStart: boolean;
  payload: number;
  /** Undefined: there are none. */
  credentials: number | undefined;
  joins: boolean;
  conditional: boolean;
  /** Its assignment breaks the schema. */
  broken: boolean;
};

type Daemon = {
  readonly source: DesiredSource;
  readonly reconciler: Reconciler;
  readonly store: RoomStateStore;
  readonly directory: RoomDirectory;
  readonly stop: AbortController;
  readonly path: string;
  upgrader: Upgrader | undefined;
  dead: boolean;
  position: number;
  /** What the launcher's last answer stood for. */
  listed: readonly SandboxStatus[];
};

/** Quick enough to matter between two events. */
const healthCheck = { type: "socket", interval_seconds: 3, grace_period_seconds: 3, failure_threshold: 2 };

/** Longer than every backoff and poll together: in this time the world must be as it was asked to be. */
const CALM_MS = 240_000;

export class Simulator {
  readonly violations: string[] = [];
  /** The last events, printed with a failure. */
  readonly history: string[] = [];
  /** How often daemons asked the launcher for what. */
  readonly asked = new Map<LauncherAction, number>();
  readonly #random: SeededRandom;
  readonly #clock = new TurnedClock();
  readonly #rooms = new SimulatedRooms();
  readonly #launcher: SimulatedLauncher;
  readonly upgrades: SimulatedUpgrades;
  readonly #intents = new Map<PrincipalName, Intent>();
  readonly #templates = new Map<string, number | undefined>([["t", 1]]);
  #versions = 1;
  #condition: number | undefined;
  #configBroken = false;
  /** Event ID of the request that the machine leave; undefined while there is none. */
  #decommission: string | undefined;
  /** Requests that daemons answered. */
  readonly #answered = new Set<string>();
  #disk: string | undefined;
  #daemon: Daemon | undefined;
  /** Requests of dead daemons may still be carried out: principals whose sandbox may appear out of nowhere. */
  readonly #strays = new Set<PrincipalName>();
  /** Work that ended by itself: `account payload template`. It must not begin again. */
  /** Versions of the template whose program never works. */
  readonly #badVersions = new Set<string>();
  /** The spec history on the disk, and how often something was rejected. */
  readonly #history = new Map<PrincipalName, string>();
  rejections = 0;
  /** How often the desired state was resolved, and compared. */
  resolutions = 0;
  readonly #done = new Set<string>();
  /** Work that was done, but that the daemon may have been told to do again, or not have seen end. */
  readonly #unclear = new Set<string>();

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    this.#launcher = new SimulatedLauncher(this.#clock, this.#random);
    this.upgrades = new SimulatedUpgrades({
      clock: this.#clock,
      random: this.#random,
      isHomeserverUp: () => this.#rooms.up,
      killDaemon: () => this.#crashDaemon(),
      startDaemon: (path) => this.#startDaemon(path),
      onViolation: (text) => this.violations.push(`${this.#clock.now()} ${text}`),
      onEvent: (text) => this.history.push(`${this.#clock.now()} ${text}`),
      startedAt: () =>
        [...this.#launcher.sandboxes.values()]
          .filter(({ state }) => state === "running")
          .map(({ startedAt }) => startedAt),
      onWanted: () => this.#writeConfig(),
    });
    this.#launcher.builds = this.upgrades;
    for (const account of accounts)
      this.#intents.set(account, {
        assigned: this.#random.chance(0.7),
        autoStart: true,
        payload: 1,
        credentials: 1,
        joins: false,
        conditional: account === "agent/w",
        broken: false,
      });
    this.#rooms.write("template", eventTypes.template, "t", { command: ["v1"], health_check: healthCheck });
    this.#writeConfig();
    for (const account of accounts) this.#writeCredentials(account);
    this.#startDaemon();
  }

  /** `count` events, with time passing between them, and calm now and then, when everything must come right. */
  async run(count: number): Promise<void> {
    for (let i = 1; i <= count && this.violations.length === 0; i++) {
      this.#event();
      this.#deliver();
      await this.#clock.turn(this.#random.below(this.#random.chance(0.1) ? 40_000 : 2_000));
      this.#deliver();
      this.#compareList();
      if (i % 100 === 0 || i === count) await this.#calmDown();
    }
    this.#crashDaemon();
  }

  /** The list that the daemon keeps from changes must equal the launcher's. */
  #compareList(): void {
    if (this.#daemon === undefined) return;
    const { reconciler, listed } = this.#daemon;
    const sorted = (list: readonly SandboxStatus[]) =>
      [...list].sort((a, b) => (a.principal < b.principal ? -1 : 1));
    if (Bun.deepEquals(sorted(reconciler.view.sandboxes), sorted(listed))) return;
    this.violations.push(`${this.#clock.now()} the daemon's list of sandboxes is not the launcher's`);
  }

  #event(): void {
    const account = this.#random.pick(accounts) ?? agents[0];
    const intent = account === undefined ? undefined : this.#intents.get(account);
    if (account === undefined || intent === undefined) return;
    const events: readonly (readonly [weight: number, name: string, act: () => void])[] = [
      [6, `${account} assigned or taken out`, () => this.#toggleAssigned(account, intent)],
      [3, `${account} switched on or off`, () => this.#toggleAutoStart(account, intent)],
      [12, `${account} gets another payload`, () => this.#change(() => intent.payload++)],
      [3, `${account} gets other grants`, () => this.#change(() => (intent.joins = !intent.joins))],
      [
        2,
        `${account} broken or repaired`,
        () => this.#change(() => (intent.broken = !this.#usually(!intent.broken))),
      ],
      [4, `${account} credentials`, () => this.#rotate(account, intent)],
      [3, "template", () => this.#editTemplate()],
      [
        2,
        "configuration broken or repaired",
        () => this.#change(() => (this.#configBroken = !this.#usually(!this.#configBroken))),
      ],
      [4, "condition", () => this.#editCondition()],
      [1, "machine asked to leave", () => this.#askToLeave()],
      [2, "request to leave withdrawn", () => this.#withdraw()],
      [12, `${account} ends well`, () => this.#exit(account, 0)],
      [12, `${account} fails`, () => this.#exit(account, 1 + this.#random.below(3))],
      [6, `${account} falls ill or recovers`, () => this.#fallIll(account)],
      [10, `proxy of ${account} dies`, () => this.#launcher.killProxy(account)],
      [3, "daemon crashes", () => this.#crashDaemon()],
      [12, "daemon starts", () => this.#startDaemon()],
      [3, "launcher goes down or up", () => this.#toggleLauncher()],
      [1, "machine reboots", () => this.#reboot()],
      [3, "homeserver goes down or up", () => (this.#rooms.up = this.#usually(this.#rooms.up))],
      [2, "starts fail or work", () => (this.#launcher.startFailure = this.#random.chance(0.5) ? 0.7 : 0)],
      ...this.upgrades.events(),
      [10, "nothing", () => {}],
    ];
    let left = this.#random.below(events.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, name, act] of events) {
      left -= weight;
      if (left >= 0) continue;
      this.history.push(`${this.#clock.now()} ${name}`);
      act();
      return;
    }
  }

  /** What was taken away comes back soon, or nothing would ever run long enough to be disturbed. */
  #usually(is: boolean): boolean {
    return !is || this.#random.chance(0.6);
  }

  #toggleLauncher(): void {
    this.#launcher.up = this.#usually(this.#launcher.up);
    if (!this.#launcher.up) this.upgrades.launcherDown();
  }

  #change(act: () => void): void {
    act();
    this.#writeConfig();
  }

  #toggleAssigned(account: PrincipalName, intent: Intent): void {
    // Taken out and put in again it is new work, if the daemon came to see it.
    this.#forgetDone(account);
    this.#change(() => {
      intent.assigned = this.#usually(intent.assigned);
    });
  }

  #toggleAutoStart(account: PrincipalName, intent: Intent): void {
    this.#forgetDone(account);
    this.#change(() => {
      intent.autoStart = this.#usually(intent.autoStart);
    });
  }

  #rotate(account: PrincipalName, intent: Intent): void {
    intent.credentials = this.#random.chance(0.15) ? undefined : this.#random.below(1_000);
    this.#writeCredentials(account);
  }

  /** No version comes twice: going back to an earlier one would rightly run its work again. */
  #editTemplate(there = this.#random.chance(0.8)): void {
    const version = there ? ++this.#versions : undefined;
    this.#templates.set("t", version);
    this.#rooms.write(
      "template",
      eventTypes.template,
      "t",
      version === undefined ? {} : { command: [`v${version}`], health_check: healthCheck },
    );
    if (version !== undefined && this.#random.chance(0.3)) this.#badVersions.add(`v${version}`);
  }

  #editCondition(): void {
    this.#condition = this.#random.chance(0.2) ? undefined : this.#random.below(3);
    this.#rooms.write(
      "condition",
      "m.bureau.test",
      "",
      this.#condition === undefined ? {} : { n: this.#condition },
    );
  }

  #askToLeave(): void {
    // What ended without a daemon having seen it is cleared away with the rest.
    for (const account of jobs) this.#forgetDone(account);
    this.#decommission = this.#writeRequest({
      grace_seconds: 1 + this.#random.below(20),
      requested_at: "",
      requested_by: "@operator:bureau.test",
    });
  }

  #withdraw(): void {
    if (this.#decommission === undefined) return;
    this.#decommission = undefined;
    this.#writeRequest({});
  }

  #writeRequest(content: object): string {
    return this.#rooms.write("config", eventTypes.machineDecommission, machineKey, content);
  }

  #exit(account: PrincipalName, code: number): void {
    const sandbox = this.#launcher.sandboxes.get(account);
    if (sandbox?.state !== "running" || sandbox.stopping) return;
    this.#launcher.exit(account, code);
    if (!jobs.includes(account)) return;
    const work = `${account} ${sandbox.payload["n"]} ${sandbox.command[0]}`;
    // A machine that is leaving clears away what ended, and need not have taken in that it did.
    if (this.#decommission !== undefined || this.#daemon?.source.latest?.decommission !== undefined) {
      this.#unclear.add(work);
      return;
    }
    this.#done.add(work);
    this.#unclear.delete(work);
  }

  #fallIll(account: PrincipalName): void {
    this.#launcher.fallIll(account, this.#launcher.sandboxes.get(account)?.sick !== true);
  }

  #workOf(account: PrincipalName): string {
    return `${account} ${this.#intents.get(account)?.payload} v${this.#templates.get("t")}`;
  }

  #forgetDone(account: PrincipalName): void {
    for (const work of this.#done) {
      if (!work.startsWith(`${account} `)) continue;
      this.#done.delete(work);
      this.#unclear.add(work);
    }
  }

  /** Exits that no daemon has taken in are lost with their records: such work may run again. */
  #reboot(): void {
    for (const { account, state } of this.#launcher.sandboxes.values())
      if (state === "exited") this.#forgetDone(account);
    this.#crashDaemon();
    this.#launcher.reboot();
    this.upgrades.reboot();
  }

  #writeConfig(): void {
    const principals = [...this.#intents]
      .filter(([, { assigned }]) => assigned)
      .map(([account, intent]) => ({
        principal: userOf(account),
        template: "bureau/template:t",
        auto_start: intent.broken ? "perhaps" : intent.autoStart,
        payload: { n: intent.payload },
        matrix_policy: { allow_join: intent.joins },
        restart_policy: jobs.includes(account) ? "never" : "always",
        ...(intent.conditional
          ? {
              start_condition: {
                event_type: "m.bureau.test",
                state_key: "",
                room_alias: conditionAlias,
                content_match: { n: { $gte: 1 } },
              },
            }
          : {}),
      }));
    this.#rooms.write("config", eventTypes.machineConfig, machineKey, {
      principals: this.#configBroken ? "what?" : principals,
      ...(this.upgrades.wanted === undefined ? {} : { bureau_version: this.upgrades.wanted }),
    });
  }

  #writeCredentials(account: PrincipalName): void {
    const version = this.#intents.get(account)?.credentials;
    const content = {
      version: 1,
      principal: userOf(account),
      encrypted_for: [],
      keys: [],
      ciphertext: `c${version}`,
      provisioned_by: "@operator:bureau.test",
      provisioned_at: "",
      signature: "",
    };
    const key = stateKeyOf(userOf(account));
    this.#rooms.write("config", eventTypes.credentials, key, version === undefined ? {} : content);
  }

  #startDaemon(path = this.upgrades.bootLink): void {
    if (this.#daemon !== undefined) return;
    const daemon = this.#build(path);
    this.#daemon = daemon;
    const { store, reconciler, stop } = daemon;
    daemon.upgrader = this.upgrades.start({
      path,
      key: machineKey,
      isDead: () => daemon.dead,
      view: () => (daemon.position === 0 ? undefined : store.room(configRoom)),
      launcher: this.#launcher.clientFor(
        () => daemon.dead,
        () => {},
      ),
      reconciler,
      signal: stop.signal,
    });
    if (daemon.upgrader === undefined) return;
    void reconciler.run(stop.signal);
    this.#deliver();
  }

  #build(path: string): Daemon {
    const isDead = (): boolean => daemon.dead;
    const notify = (): void => {};
    const random = (): number => this.#random.next();
    const shared = { clock: this.#clock, random, log: silentLog };
    const store = new RoomStateStore();
    const directory = new RoomDirectory({
      ...shared,
      session: this.#rooms.session,
      isJoined: (room) => store.joinedRooms().includes(room),
      onChange: () => reconciler.mark(),
    });
    const source = new DesiredSource({
      onAuthorization: () => {},
      members: noMembers,
      machine,
      server,
      resolver: this.#comparedResolver(),
      states: store,
      directory,
      notify,
      log: silentLog,
      scope: { want: () => {} },
    });
    const history = new SpecHistory(this.#historyFiles(isDead), silentLog);
    const reconciler = new Reconciler({
      ...shared,
      notify,
      userOf,
      graceMs: 5_000,
      desired: () => source.current(),
      launcher: this.#launcher.clientFor(
        isDead,
        (action, account, { isAlone, request }) => {
          this.#check(action, account, request);
          if (!isAlone) this.violations.push(`${action} ${account}: another request is under way`);
        },
        (whole) => (daemon.listed = whole),
      ),
      onDrained: ({ request }) => {
        if (isDead()) return;
        this.#answered.add(request);
        for (const { account, state } of this.#launcher.sandboxes.values())
          if (state === "running" && !this.#strays.has(account))
            this.violations.push(`${this.#clock.now()} the machine says that it is empty: ${account} runs`);
      },
      onRemoval: (account) => daemon.upgrader?.removes(account),
      proxies: this.#launcher.proxiesFor(isDead),
      history,
      health: new HealthMonitor({
        clock: this.#clock,
        log: silentLog,
        onChange: () => reconciler.mark(),
        healthProbe: this.#launcher.healthProbeWith(({ command }) => this.#badVersions.has(command[0] ?? "")),
      }),
      state: new ReconcileState({
        read: () => this.#disk,
        write: (text) => {
          if (!isDead()) this.#disk = text;
        },
      }),
    });
    const stop = new AbortController();
    const daemon: Daemon = {
      source,
      reconciler,
      store,
      directory,
      stop,
      path,
      upgrader: undefined,
      dead: false,
      position: 0,
      listed: [],
    };
    return daemon;
  }

  /** What is kept from earlier resolutions must never show: a resolver that knows nothing must agree at every step. */
  #comparedResolver(): Pick<DesiredResolver, "resolve"> {
    const place = { machine, server, localpartBytesMax: 84 };
    const resolver = new DesiredResolver(place);
    return {
      resolve: (snapshot) => {
        const kept = resolver.resolve(snapshot);
        const fresh = new DesiredResolver(place).resolve(snapshot);
        this.resolutions++;
        if (!Bun.deepEquals(comparable(kept), comparable(fresh), true))
          this.violations.push(`${this.#clock.now()} a kept resolution differs from a fresh one`);
        return kept;
      },
    };
  }

  #historyFiles(isDead: () => boolean): HistoryFiles {
    const disk = this.#history;
    return {
      read: () => [...disk],
      write: (account, text) => {
        if (isDead()) return;
        if (text.includes('"announced":false')) this.rejections++;
        disk.set(account, text);
      },
      remove: (account) => {
        if (!isDead()) disk.delete(account);
      },
    };
  }

  /** As SIGKILL would: what it had asked for may still be done, what it would have done is not. */
  #crashDaemon(): void {
    const daemon = this.#daemon;
    if (daemon === undefined) return;
    for (const { name, state } of daemon.reconciler.view.reports)
      if (state === "starting") this.#strays.add(parsePrincipalName(name));
    daemon.dead = true;
    daemon.stop.abort();
    daemon.directory[Symbol.dispose]();
    this.#daemon = undefined;
  }

  /** What the homeserver has for the daemon. */
  #deliver(): void {
    const daemon = this.#daemon;
    const news = daemon === undefined ? undefined : this.#rooms.sync(daemon.position);
    if (daemon === undefined || news === undefined || news.position === daemon.position) return;
    if (daemon.position === 0) daemon.source.setConfigRoom(configRoom);
    daemon.position = news.position;
    daemon.store.apply(news.response);
    daemon.reconciler.mark();
    daemon.upgrader?.mark();
  }

  /** What a daemon may never ask for. */
  #check(action: LauncherAction, account: PrincipalName, request: object): void {
    const desired = this.#daemon?.source.latest;
    const fault = (text: string): void => {
      this.violations.push(`${this.#clock.now()} ${action} ${account}: ${text}`);
    };
    this.asked.set(action, (this.asked.get(action) ?? 0) + 1);
    if (desired === undefined) {
      fault("nothing is known about what should run");
      return;
    }
    const outcome = desired.principals.get(account)?.outcome;
    const sandbox = this.#launcher.sandboxes.get(account);
    if (action === "create-sandbox") {
      if (this.#launcher.isCreating(account)) fault("it is being made");
      if (sandbox !== undefined && !this.#strays.has(account)) fault("it has a sandbox");
      if (outcome?.kind !== "run") {
        fault(`it should not run: ${outcome?.kind}`);
        return;
      }
      const { spec, digests } = this.#chosen(account, outcome.sandbox).sandbox;
      const work = `${account} ${spec.payload?.["n"]} ${spec.command?.[0]}`;
      if (jobs.includes(account) && this.#done.has(work)) fault(`this work was done: ${work}`);
      const asked = request as LauncherRequest<"create-sandbox">;
      if (asked.digests.spec !== digests.spec) fault("it is not this that should run");
    }
    if (action === "destroy-sandbox" && (outcome?.kind === "failed" || outcome?.kind === "unresolved"))
      fault(`it is not known what should run: ${outcome.reason}`);
    if (action === "destroy-sandbox" && outcome?.kind === "run" && sandbox?.state === "running")
      this.#checkStop(account, sandbox, outcome.sandbox, fault);
  }

  /** Only what is sick may be stopped while it runs as it should. A job that was is left alone from then on. */
  #checkStop(
    account: PrincipalName,
    sandbox: SimulatedSandbox,
    asked: WantedSandbox,
    fault: (text: string) => void,
  ): void {
    if (sandbox.digests.spec !== this.#chosen(account, asked).sandbox.digests.spec) return;
    if (!sandbox.wasSick) fault("it runs as it should");
    if (jobs.includes(account)) this.#unclear.add(this.#workOf(account));
  }

  /** What should run, given what is on the disk about what worked and what did not. */
  #chosen(account: PrincipalName, asked: WantedSandbox): Choice {
    const policy = jobs.includes(account) ? "never" : "always";
    const onDisk = new SpecHistory(
      this.#historyFiles(() => true),
      silentLog,
    );
    return chooseSandbox(asked, policy, onDisk.of(account));
  }

  /** Everything works and nothing happens any more: the machine must become what was asked for. */
  async #calmDown(): Promise<void> {
    this.history.push(`${this.#clock.now()} calm`);
    this.#launcher.up = true;
    this.#launcher.startFailure = 0;
    for (const account of accounts) this.#launcher.fallIll(account, false);
    this.#rooms.up = true;
    this.#configBroken = false;
    for (const intent of this.#intents.values()) intent.broken = false;
    const compareUpgrade = this.upgrades.calm();
    this.#writeConfig();
    if (this.#templates.get("t") === undefined) this.#editTemplate(true);
    this.#startDaemon();
    this.#deliver();
    await this.#clock.turn(CALM_MS);
    this.#strays.clear();
    if (this.#decommission !== undefined) await this.#compareLeaving(this.#decommission);
    compareUpgrade();
    for (const account of accounts) this.#compare(account);
    if (this.#daemon?.reconciler.view.launcherAway !== undefined)
      this.violations.push("the launcher is up and the daemon has not noticed");
  }

  /** Asked to leave, it must have stopped everything and reported it; when the request is withdrawn it continues. */
  async #compareLeaving(request: string): Promise<void> {
    if (!this.#answered.has(request))
      this.violations.push("asked to leave, the machine never said that it did");
    for (const { account, state } of this.#launcher.sandboxes.values())
      if (state === "running") this.violations.push(`the machine left, and ${account} runs`);
    this.#withdraw();
    this.#deliver();
    await this.#clock.turn(CALM_MS);
  }

  #compare(account: PrincipalName): void {
    const intent = this.#intents.get(account);
    const template = this.#templates.get("t");
    if (intent === undefined || template === undefined) return;
    const sandbox = this.#launcher.sandboxes.get(account);
    const fault = (text: string): void => {
      const said = this.#daemon?.reconciler.view.reports.find(({ name }) => name === account);
      this.violations.push(`${account} after the calm: ${text}; the daemon says ${JSON.stringify(said)}`);
    };
    // Without credentials its state stays as it was.
    if (intent.assigned && intent.autoStart && intent.credentials === undefined) return;
    if (this.#unclear.has(this.#workOf(account))) return;
    const holds = !intent.conditional || (this.#condition ?? 0) >= 1;
    const wanted = intent.assigned && intent.autoStart && holds && !this.#done.has(this.#workOf(account));
    if (!wanted) {
      if (sandbox !== undefined) fault("it should not run");
      return;
    }
    const outcome = this.#daemon?.source.latest?.principals.get(account)?.outcome;
    if (outcome?.kind !== "run") {
      fault("it should run, and its daemon does not think so");
      return;
    }
    const { instead, sandbox: chosen } = this.#chosen(account, outcome.sandbox);
    // Nothing that works is known of it: it is started again and again.
    if (this.#badVersions.has(chosen.spec.command?.[0] ?? "") && instead === undefined) return;
    if (sandbox === undefined || sandbox.state !== "running") {
      fault("it should run");
      return;
    }
    if (!sandbox.proxyAlive) fault("its proxy is dead");
    const program = sandbox.command[0] ?? "";
    if (instead !== undefined) {
      if (sandbox.digests.spec !== chosen.digests.spec) fault(`program ${program}, not the previous one`);
    } else {
      if (sandbox.payload["n"] !== intent.payload)
        fault(`payload ${sandbox.payload["n"]}, not ${intent.payload}`);
      if (program !== `v${template}`) fault(`program ${program}, not v${template}`);
    }
    if (sandbox.credentials !== `c${intent.credentials}`) fault(`credentials ${sandbox.credentials}`);
    if (sandbox.grants.includes("matrix/join") !== intent.joins) fault(`grants ${sandbox.grants}`);
  }
}

/** Everything that a desired state says. */
const comparable = ({ authorization, ...rest }: Desired) => ({
  ...rest,
  policies: authorization.users.map((user) => [user, authorization.policyOf(user)]),
});
