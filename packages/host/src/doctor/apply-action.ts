/**
 * The executor: the one place that changes the host. Each act is noted in the record before it is done, what it
 * replaces is kept first, and it may be cut off anywhere and done again.
 */
import {
  chmodSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  symlinkSync,
} from "node:fs";
import { dirname } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { waitFor } from "@bureau/kit/wait-for";
import { readIfPresent, removeDurably, replaceWith, writeDurably } from "@bureau/os/durable-file";
import { systemHost } from "@bureau/os/layout";
import { readMachineConf } from "@bureau/os/machine-conf";
import { programsDir } from "@bureau/os/programs-dir";
import { unitStates } from "@bureau/os/systemctl";
import { launcherUnit, terminalsUnit } from "@bureau/os/unit-names";
import type { Backups } from "../record/backups.ts";
import type { InstallRecord } from "../record/install-record.ts";
import { addMember, makeAccounts } from "../resources/account-files.ts";
import { writeBlockOf } from "../resources/block.ts";
import { installPackage } from "../resources/package.ts";
import { asSystemUser, readAccounts } from "../system/accounts.ts";
import { firstBoot, hostSecret, sealMachineKey } from "../system/first-boot.ts";
import { buildAt, installBuild, installedPath } from "../system/installed-build.ts";
import { look, targetOf } from "../system/look.ts";
import { setOwnership } from "../system/root-files.ts";
import { mustRun, runCommand } from "../system/run-command.ts";
import type { Action } from "./plan.ts";

export type FixContext = {
  readonly record: InstallRecord;
  readonly backups: Backups;
  /** Text of the bootstrap file, when one was given. */
  readonly bootstrap: string | undefined;
};

/** @throws BureauError */
export async function applyAction(action: Action, context: FixContext): Promise<void> {
  const { record, backups } = context;
  switch (action.kind) {
    case "package":
      return installPackage(record, action.name);
    case "file":
      return writeFile(action, context);
    case "block":
      return writeBlock(action, context);
    case "accounts":
      return makeAccounts(record, backups);
    case "member":
      return addMember(record, backups, action.user, action.group);
    case "folder":
      return makeFolder(action, context);
    case "build":
      return addBuild(action.from, record);
    case "link":
      return makeLink(action, context);
    case "sysctl":
      record.intend({ kind: "sysctl", name: action.name, before: await sysctl(action.name) });
      return void (await mustRun(["sysctl", "-q", "-w", `${action.name}=${action.value}`]));
    case "apparmor":
      record.intend({ kind: "apparmor", path: action.path });
      return void (await mustRun(["apparmor_parser", "-r", action.path]));
    case "remove":
      return removeDurably(action.path);
    case "seal-key":
      return sealMachineKey(realpathSync(programsDir()), () =>
        record.intend({ kind: "credential-secret", path: hostSecret }),
      );
    case "join":
      return join(context);
    case "renew-terminal-socket":
      return renewTerminalSocket(action.path);
    case "ntp":
      record.intend({ kind: "ntp" });
      return void (await mustRun(["timedatectl", "set-ntp", "true"]));
    case "reload":
    case "stop":
    case "enable":
    case "restart":
    case "start":
      return tellSystemd(action, record);
  }
}

type Of<Kind extends Action["kind"]> = Extract<Action, { kind: Kind }>;

/** Missing folders above a file of ours are ours too. */
function makeParents(path: string, record: InstallRecord): void {
  const parent = dirname(path);
  if (existsSync(parent)) return;
  makeParents(parent, record);
  record.intend({ kind: "folder", path: parent });
  mkdirSync(parent, { mode: 0o755 });
  chmodSync(parent, 0o755);
}

function writeFile({ path, text, mode }: Of<"file">, { record, backups }: FixContext): void {
  makeParents(path, record);
  const seen = look(path);
  const before = seen.kind === "absent" ? undefined : backups.keep(path);
  if (seen.kind !== "absent" && before === undefined)
    throw new BureauError("conflict", `Cannot write "${path}": a ${seen.kind} lies there`, {
      hint: `move it away: ls -l ${path}`,
    });
  record.intend({ kind: "file", path, ...(before === undefined ? {} : { before }) });
  writeDurably(path, text, mode);
}

function writeBlock({ path, lines }: Of<"block">, { record, backups }: FixContext): void {
  makeParents(path, record);
  const seen = look(path);
  if (seen.kind !== "file" && seen.kind !== "absent")
    throw new BureauError("conflict", `Cannot add to "${path}": it is a ${seen.kind}`);
  if (seen.kind === "file") backups.keep(path);
  record.intend({ kind: "block", path, made: seen.kind === "absent" });
  writeBlockOf(path, lines);
}

function makeFolder({ path, owner, group, mode }: Of<"folder">, { record, backups }: FixContext): void {
  const accounts = readAccounts();
  const [uid, gid] = [accounts.user(owner)?.uid, accounts.group(group)?.gid];
  if (uid === undefined || gid === undefined)
    throw new BureauError(
      "not-found",
      `Cannot give "${path}" to ${owner}:${group}: there is no such user or group`,
    );
  makeParents(path, record);
  if (look(path).kind === "absent") {
    record.intend({ kind: "folder", path });
    mkdirSync(path, { mode: 0o700 });
  } else {
    const stat = lstatSync(path);
    if (!stat.isDirectory())
      throw new BureauError("conflict", `Cannot make the folder "${path}": something else lies there`);
    const before = {
      uid: stat.uid,
      gid: stat.gid,
      mode: stat.mode & 0o7777,
      names: readdirSync(path).sort(),
    };
    backups.keepOwnership(path);
    record.intend({ kind: "folder", path, before });
  }
  setOwnership(path, { uid, gid, mode });
}

function addBuild(from: string, record: InstallRecord): void {
  const build = buildAt(from);
  if (installedPath(build) !== build.path) makeParents(installedPath(build), record);
  installBuild(build);
}

function makeLink({ path, target, owner }: Of<"link">, { record, backups }: FixContext): void {
  if (targetOf(path) === target && lstatSync(path).uid === readAccounts().user(owner)?.uid) return;
  makeParents(path, record);
  const seen = look(path);
  const before = seen.kind === "absent" ? undefined : backups.keep(path);
  if (seen.kind !== "absent" && before === undefined)
    throw new BureauError("conflict", `Cannot link "${path}": a ${seen.kind} lies there`, {
      hint: `move it away: ls -l ${path}`,
    });
  record.intend({ kind: "link", path, ...(before === undefined ? {} : { before }) });
  const user = readAccounts().user(owner);
  if (user === undefined)
    throw new BureauError("not-found", `Cannot give "${path}" to ${owner}: there is no such user`);
  replaceWith(path, (temporary) => {
    symlinkSync(target, temporary);
    lchownSync(temporary, user.uid, user.gid);
  });
}

/** As the system user, whose folder it lies in: root would follow whatever stands there. */
async function renewTerminalSocket(path: string): Promise<void> {
  await mustRun([...asSystemUser(readAccounts()), "rm", "-f", "--", path]);
  await mustRun(["systemctl", "kill", "--kill-whom=main", "--signal=SIGUSR1", terminalsUnit]);
}

const sysctl = async (name: string): Promise<string> =>
  readIfPresent(`/proc/sys/${name.replaceAll(".", "/")}`)?.trim() ?? "";

async function join({ bootstrap }: FixContext): Promise<void> {
  const conf = readMachineConf(systemHost.machineConf);
  if (conf === undefined)
    throw new BureauError("not-found", `Cannot join: there is no "${systemHost.machineConf}"`);
  if (bootstrap === undefined)
    throw new BureauError("invalid-input", "Cannot join: no bootstrap file was given", {
      hint: "give --bootstrap-file FILE",
    });
  await firstBoot(conf, bootstrap);
}

/** Longer than a unit's own limit on stopping. */
const starting = { timeoutMs: 120_000 };

async function tellSystemd(
  action: Of<"reload" | "stop" | "enable" | "restart" | "start">,
  record: InstallRecord,
): Promise<void> {
  switch (action.kind) {
    case "reload":
      await mustRun(["systemctl", "daemon-reload"]);
      return;
    case "stop":
      await mustRun(["systemctl", "stop", ...action.units], starting);
      return;
    case "enable":
      record.intend({ kind: "enabled", unit: action.unit });
      await mustRun(["systemctl", "--quiet", "unmask", action.unit]);
      await mustRun(["systemctl", "--quiet", "enable", action.unit]);
      return;
    case "restart":
      return restart(action.unit);
    case "start":
      // One that failed too often is not started otherwise.
      await runCommand(["systemctl", "reset-failed", action.unit]);
      return start(action.unit);
  }
}

/**
 * A socket unit is only made anew while its service is away. The launcher is ended without being told, because one that
 * is told to stop ends every sandbox first; the next one takes them over.
 */
async function restart(unit: string): Promise<void> {
  const service = unit.replace(/\.socket$/, ".service");
  await runCommand(["systemctl", "reset-failed", unit, service]);
  for (let attempt = 1; ; attempt++) {
    if (service === launcherUnit) await endLauncher();
    else await mustRun(["systemctl", "stop", service], starting);
    if (service === unit) break;
    const ran = await runCommand(["systemctl", "restart", unit], starting);
    if (ran.code === 0) break;
    // systemd has started the launcher again first, on the old socket.
    if (attempt === SOCKET_ATTEMPTS_MAX)
      throw new BureauError("failed", `Cannot start "${unit}" anew: ${ran.stderr.trim()}`);
  }
  await start(service);
}

/**
 * A service that fails again and again never ends its start: whether it came up is seen afterwards. One that waits to be
 * tried again is not started before its time, only restarted (systemd, service_start).
 */
async function start(unit: string): Promise<void> {
  if (!unit.endsWith(".service")) return void (await mustRun(["systemctl", "start", unit], starting));
  const state = (await unitStates([unit])).get(unit);
  const verb = state?.sub === "auto-restart" ? "restart" : "start";
  await mustRun(["systemctl", verb, "--no-block", unit], starting);
}

/** systemd waits for a moment before it starts a service again; one of these falls into it. */
const SOCKET_ATTEMPTS_MAX = 5;

/** A killed process is gone at once; systemd takes note a moment later. */
const GONE_MS_MAX = 5_000;

async function endLauncher(): Promise<void> {
  const kill = ["systemctl", "kill", "--kill-whom=main", "--signal=SIGKILL", launcherUnit];
  if ((await runCommand(kill)).code !== 0) return;
  await waitFor(
    async () =>
      (await unitStates([launcherUnit])).get(launcherUnit)?.active === "active" ? undefined : true,
    { timeoutMs: GONE_MS_MAX, clock: systemClock },
  );
}
