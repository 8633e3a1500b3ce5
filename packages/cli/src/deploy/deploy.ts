/**
 * Makes a host a machine of the fleet, in one command: check the host, provision the machine, send the programs, run
 * doctor there, wait for a heartbeat.
 *
 * Every step first reads the state of the host and of the rooms. Only the one-time password is stored, in a 0600 file,
 * until the machine has joined. So an interrupted deploy continues when it is run again, and a complete one changes
 * nothing.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { ListedMachine } from "@bureau/control/machines/list-machines";
import { findMachine } from "@bureau/control/machines/list-machines";
import { provisionMachine } from "@bureau/control/machines/provision";
import { bootstrapFileAt } from "@bureau/instance/bootstrap-file";
import { machineNameFrom } from "@bureau/instance/instance";
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { sha256Hex } from "@bureau/os/digest";
import { readIfPresent, removeDurably } from "@bureau/os/durable-file";
import { makePrivateDir } from "@bureau/os/layout";
import { type MachineLocalpart, machineLocalpart, parseMachine } from "@bureau/schema/refs";
import * as v from "valibot";
import { askPassword } from "../command/ask-password.ts";
import { type AdminChoice, administratorCredentials, openSession, serverAdmin } from "../command/operator.ts";
import { type HostShell, lastLines } from "../remote/host-shell.ts";
import { localShell } from "../remote/local.ts";
import { isInteractive, openShell } from "../remote/open-shell.ts";
import type { SshShell } from "../remote/ssh.ts";
import { bringPrograms, removeStaging } from "./bring-programs.ts";
import { buildFiles, manifestOf, runtimesOf } from "./build-archive.ts";
import { type DeployRequest, deployStateDir } from "./deploy-request.ts";
import { checkHost, type HostFacts } from "./host-check.ts";
import { hostProblems } from "./host-problems.ts";
import { hasSession } from "./host-session.ts";
import { canCopy, copyClosure, installNix, nixInstaller, storePathOf } from "./nix.ts";
import { becomeRoot, type Root } from "./privilege.ts";
import { type DoctorReport, runDoctor } from "./run-doctor.ts";
import { type StepResult, Steps } from "./steps.ts";
import { HEARTBEAT_MS_MAX, waitForHeartbeat } from "./wait-for-machine.ts";

export type Deployed = {
  readonly machine: MachineLocalpart;
  readonly target: string;
  readonly steps: readonly StepResult[];
  readonly seconds: number;
  /** Everything was in place: the machine had joined, with this build, and doctor changed nothing. */
  readonly unchanged: boolean;
  readonly lastSeen?: string;
  /** Only with --dry-run: what would be done. */
  readonly plan?: readonly string[];
};

/** The result of the check. */
type Situation = {
  readonly host: HostShell;
  readonly facts: HostFacts;
  readonly machine: MachineLocalpart;
  /** How the fleet knows it; undefined when it has not joined. */
  readonly listed: ListedMachine | undefined;
  /** The folder of an installed build that is left as it is: it is this one, or what a machine that has joined runs. */
  readonly installed: string | undefined;
};

type Context = {
  readonly operator: AdminChoice;
  readonly request: DeployRequest;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly steps: Steps;
};

const JOURNAL_MS_MAX = 20_000;
const JOURNAL_LINES = 12;

/** @throws BureauError that names the step, quotes the host, and has the command to continue as its hint */
export async function deploy(
  operator: AdminChoice,
  request: DeployRequest,
  deps: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<Deployed> {
  const steps = new Steps({ terminal: operator.terminal, clock: deps.clock, again: request.again });
  const context = { operator, request, steps, ...deps };
  await using host = await connect(context);
  const situation = await look(context, host);
  const result = (more: Pick<Deployed, "unchanged" | "lastSeen" | "plan">): Deployed => ({
    machine: situation.machine,
    target: request.typedTarget,
    steps: steps.results,
    seconds: steps.seconds,
    ...more,
  });
  if (request.dryRun) return result({ unchanged: true, plan: planOf(context, situation) });
  const root = await rootOn(context, situation);
  const bootstrapFile = await provision(context, situation, root);
  const build = await bring(context, situation, root);
  const report = await repair(context, situation, root, { build, bootstrapFile });
  const { lastSeen } = await seeItLive(context, situation, root, report);
  await tidy(context, situation, bootstrapFile);
  const unchanged =
    situation.listed !== undefined && situation.installed !== undefined && report.changes.length === 0;
  return result({ unchanged, ...(lastSeen === undefined ? {} : { lastSeen }) });
}

const connect = ({ request, signal, steps }: Context): Promise<HostShell> =>
  steps.run(
    "connect",
    `Connecting to ${request.typedTarget}`,
    async () => {
      const value = await openShell(request.target, request.sshOptions, signal);
      return { value, detail: `as ${value.name}` };
    },
    // ssh may ask for a password or about a host key.
    { quiet: request.target.kind === "ssh" && isInteractive() },
  );

/** Checks the host and the fleet. @throws BureauError that lists every problem at once */
const look = ({ operator, request, steps }: Context, host: HostShell): Promise<Situation> =>
  steps.run("check", `Checking ${host.name}`, async (update) => {
    const facts = await checkHost(host, request.homeserver);
    const machine = machineNamed(request, facts);
    update("reading the fleet");
    const listed = await findMachine(openSession(operator), machine);
    const keeps = facts.INSTALLED !== "" && (listed !== undefined || isThisBuild(request, facts));
    const needed = keeps ? 0 : buildBytes(request, facts);
    const problems = hostProblems(facts, {
      homeserver: request.homeserver,
      machine,
      buildBytes: needed,
      builds: [...runtimesOf(request.build).keys()],
      interactive: isInteractive(),
    });
    if (problems.length > 0)
      throw new BureauError(
        "unsupported",
        `${host.name} cannot become a machine yet:\n${problems
          .map(({ what, remedy }) => `  ${what}\n    → ${remedy}`)
          .join("\n")}`,
        { hint: "fix these problems, then deploy again" },
      );
    if (listed === undefined) administratorCredentials(operator);
    else if (facts.conf.get("BUREAU_MACHINE_NAME") !== machine) throw nameIsTaken(machine, listed);
    const detail = `${facts.ARCH}, ${facts.LIBC}, systemd ${facts.SYSTEMD}, ${Math.floor((facts.VAR_FREE_KB ?? 0) / 1024)} MB free, ${facts.PRIVILEGE}`;
    const installed = keeps ? facts.INSTALLED : undefined;
    return { value: { host, facts, machine, listed, installed }, detail };
  });

function nameIsTaken(machine: MachineLocalpart, listed: ListedMachine): BureauError {
  return new BureauError(
    "conflict",
    `The name "${machine}" is in use: the host "${listed.hostname ?? "unknown"}" has joined under it`,
    {
      hint: `choose another name with --machine-name, or remove that machine first: bureau machine decommission ${machine}`,
    },
  );
}

const isThisBuild = ({ build }: DeployRequest, facts: HostFacts): boolean =>
  facts.BUILD === sha256Hex(manifestOf(build));

/** The requested name, else the name that the host has already joined under, else the host name. */
function machineNamed({ machineName, fleet }: DeployRequest, facts: HostFacts): MachineLocalpart {
  const installed = facts.conf.get("BUREAU_MACHINE_NAME");
  const typed = machineName ?? installed ?? machineNameFrom(facts.HOSTNAME);
  return typed.includes("/") ? parseMachine(typed) : machineLocalpart(fleet, typed);
}

/** 0 for an architecture without a build, which is reported as a problem of its own. */
function buildBytes({ build, target }: DeployRequest, facts: HostFacts): number {
  if (target.kind === "local" || !runtimesOf(build).has(facts.ARCH)) return 0;
  return buildFiles(build, facts.ARCH).reduce((sum, { bytes }) => sum + bytes, 0);
}

function planOf({ request }: Context, { facts, machine, listed, installed, host }: Situation): string[] {
  const nix =
    request.nix === "install" && facts.NIX === ""
      ? nixInstaller(facts).map((command) => `there, as root: ${command.join(" ")}`)
      : [];
  return [
    ...(listed === undefined ? [`provision ${machine}: account, rooms, one-time password`] : []),
    ...nix,
    ...(installed !== undefined || request.target.kind === "local"
      ? []
      : [
          `send the programs to ${host.name}${nix.length > 0 || facts.NIX !== "" ? ", by nix copy if it can be" : ""}`,
        ]),
    `there, as root: bureau machine doctor --fix (bureau machine doctor ${request.target.kind === "local" ? "" : "ssh://… "}--fix --dry-run shows what it changes)`,
    "wait for the machine's heartbeat",
  ];
}

/** Shown as a step only when a password must be typed. */
function rootOn({ steps }: Context, { host, facts }: Situation): Promise<Root> {
  const become = (): Promise<Root> =>
    becomeRoot(host, facts.PRIVILEGE, () => askPassword(`${facts.USER} on ${host.name}, for sudo`));
  if (facts.PRIVILEGE !== "sudo-password") return become();
  return steps.run(
    "sudo",
    `Becoming root on ${host.name}`,
    async () => ({ value: await become(), detail: "accepted" }),
    { quiet: true },
  );
}

/**
 * The file with the one-time password; undefined when the machine needs none any more. One whose first boot was cut off
 * after its key was published still does.
 */
const provision = (
  { operator, request, steps }: Context,
  { facts, machine, listed, host }: Situation,
  root: Root,
) =>
  steps.run("provision", `Provisioning ${machine}`, async () => {
    const folder = deployStateDir(operator.env);
    const file = join(folder, `${machine.replaceAll("/", "+")}.json`);
    if (listed !== undefined) {
      if (!(await hasSession(root, host.name)) && existsSync(file))
        return { value: file, detail: "has not ended its first boot; its one-time password is at hand" };
      removeDurably(file);
      return { value: undefined, detail: "has joined already", skipped: true };
    }
    makePrivateDir(folder);
    const { account } = await provisionMachine({
      session: openSession(operator),
      registrationToken: administratorCredentials(operator).registrationToken,
      homeserver: request.homeserver,
      machine,
      store: bootstrapFileAt(file, machine),
      // An earlier deploy came as far as doctor: the launcher there may have used the password, and not said so yet.
      launcherReadsStore: facts.conf.get("BUREAU_MACHINE_NAME") === machine,
      admin: serverAdmin(operator),
    });
    return { value: file, detail: `${machine} ${provisioned[account]}` };
  });

const provisioned = {
  created: "has an account, rooms and invitations",
  resumed: "was provisioned already; its one-time password is at hand",
  reissued: "has a new one-time password",
} as const;

/** The build's path on the host; sends the build unless it is there. */
async function bring(context: Context, situation: Situation, root: Root): Promise<string> {
  const { request, steps } = context;
  const there = situation.installed ?? (request.target.kind === "local" ? request.build : undefined);
  if (there !== undefined) {
    const isOther = situation.installed !== undefined && !isThisBuild(request, situation.facts);
    const detail = `are there${isOther ? ", of another build: bureau machine upgrade changes it" : ""}`;
    return steps.run("programs", "Checking the programs", async () => ({
      value: there,
      detail,
      skipped: true,
    }));
  }
  const nix = await readyNix(context, situation, root);
  return steps.run("programs", `Sending the programs to ${situation.host.name}`, async (update) => {
    const copied = nix === "" ? undefined : await copyByNix(context, situation, nix, update);
    if (copied !== undefined) return { value: copied, detail: copied };
    const { path, sentBytes } = await bringPrograms({
      host: situation.host,
      facts: situation.facts,
      build: request.build,
      onProgress: update,
    });
    const detail =
      sentBytes === 0 ? `had arrived in ${path}` : `${(sentBytes / 1e6).toFixed(1)} MB to ${path}`;
    return { value: path, detail, ...(sentBytes === 0 ? { skipped: true as const } : {}) };
  });
}

/** The path of nix-store there, installed where that was asked for; empty when Nix is not to be used. */
async function readyNix(
  { request, steps }: Context,
  { host, facts }: Situation,
  root: Root,
): Promise<string> {
  if (request.nix === "avoid") return "";
  if (request.nix === "use" || facts.NIX !== "") return facts.NIX;
  return steps.run("nix", `Installing Nix on ${host.name}`, async (update) => {
    await installNix(host, root, facts, update);
    const value = (await checkHost(host, request.homeserver)).NIX;
    if (value === "")
      throw new BureauError("failed", `Nix was installed on ${host.name}, but it has no nix-store`, {
        hint: "log in there and check, or deploy with --no-nix",
      });
    return { value, detail: value };
  });
}

/** The store path there; undefined when Nix cannot copy it, and an archive is sent instead. */
async function copyByNix(
  { operator, request, signal }: Context,
  { host, facts }: Situation,
  nix: string,
  update: (text: string) => void,
): Promise<string | undefined> {
  const { target, build } = request;
  if (target.kind !== "ssh" || !isSshShell(host) || !canCopy(host, target)) return undefined;
  if (runtimesOf(build).get(facts.ARCH) !== join(build, "runtime", "bun")) return undefined;
  const here = localShell({ signal });
  try {
    update("adding the build to the Nix store here");
    const path = await storePathOf(build, here);
    update("nix copy");
    await copyClosure({ path, target, shell: host, here, facts: { ...facts, NIX: nix }, onLine: update });
    return path;
  } catch (error) {
    if (signal.aborted || !(error instanceof BureauError)) throw error;
    operator.terminal.say(`\n  nix copy failed; sending an archive instead: ${error.message}`);
    return undefined;
  }
}

const isSshShell = (host: HostShell): host is SshShell => "connectionOptions" in host;

const repair = (
  { request, steps }: Context,
  { host, facts, machine }: Situation,
  root: Root,
  bring: { readonly build: string; readonly bootstrapFile: string | undefined },
): Promise<DoctorReport> =>
  steps.run("doctor", `Running doctor --fix on ${host.name}`, async (update) => {
    const user = request.operator ?? (facts.USER === "root" ? undefined : facts.USER);
    const value = await runDoctor({
      root,
      hostName: host.name,
      build: bring.build,
      flags: [
        ...["--homeserver", request.homeserver],
        ...["--machine-name", machine],
        ...["--server-name", request.serverName],
        ...["--fleet", request.fleet],
        ...(user === undefined ? [] : ["--operator", user]),
      ],
      bootstrap: bring.bootstrapFile === undefined ? undefined : readIfPresent(bring.bootstrapFile),
      onLine: update,
    });
    const changes = value.changes.length;
    const made = changes === 0 ? "no changes needed" : `${changes} ${changes === 1 ? "change" : "changes"}`;
    return {
      value,
      detail: `${value.checks.length} checks, ${made}`,
      ...(changes === 0 ? { skipped: true } : {}),
    };
  });

const seeItLive = (
  { operator, clock, signal, steps }: Context,
  { machine, listed, host }: Situation,
  root: Root,
  report: DoctorReport,
) =>
  steps.run("heartbeat", `Waiting for ${machine}`, async (update) => {
    const session = openSession(operator);
    const last = listed?.last_seen;
    const ageMs = last === undefined ? Number.POSITIVE_INFINITY : clock.now() - Date.parse(last);
    if (report.changes.length === 0 && ageMs < HEARTBEAT_MS_MAX)
      return { value: { lastSeen: last }, detail: `lives, last seen ${last}`, skipped: true };
    try {
      const found = await waitForHeartbeat({ session, machine, before: last, clock, signal, update });
      return { value: { lastSeen: found.last_seen }, detail: `lives, last seen ${found.last_seen}` };
    } catch (error) {
      if (!(error instanceof BureauError) || error.code !== "timeout") throw error;
      throw new BureauError("timeout", `${error.message}. Its journal:\n${await journal(root)}`, {
        hint: `check it: bureau machine doctor ${host.name === "this machine" ? "" : `ssh://${host.name}`}`,
      });
    }
  });

/** The last log lines of launcher and daemon there. */
async function journal(root: Root): Promise<string> {
  const units = ["bureau-launcher.service", "bureau-daemon.service"].flatMap((unit) => ["-u", unit]);
  const argv = ["journalctl", "--no-pager", "-o", "cat", "-n", String(JOURNAL_LINES), ...units];
  const { stdout, stderr } = await root.run(argv, { timeoutMs: JOURNAL_MS_MAX });
  const readable = stdout.split("\n").map(messageOfLogLine).join("\n");
  return lastLines(readable.trim() === "" ? stderr : readable, JOURNAL_LINES)
    .map((line) => `  │ ${line}`)
    .join("\n");
}

const LogLineSchema = v.object({ program: v.string(), message: v.string() });

/** The message in a log line of our programs; any other line unchanged. */
function messageOfLogLine(line: string): string {
  if (!line.startsWith("{")) return line;
  try {
    const { program, message } = v.parse(LogLineSchema, JSON.parse(line));
    return `${program}: ${message}`;
  } catch {
    return line;
  }
}

/** Removes temporary files, also those of interrupted deploys. */
async function tidy(
  { request, steps }: Context,
  { host, facts }: Situation,
  bootstrapFile: string | undefined,
): Promise<void> {
  if (bootstrapFile !== undefined) removeDurably(bootstrapFile);
  if (request.target.kind === "local" || facts.STAGING === "") return;
  await steps.run("tidy", `Removing temporary files from ${host.name}`, async () => {
    await removeStaging(host, facts.STAGING);
    return { value: undefined, detail: "none left" };
  });
}
