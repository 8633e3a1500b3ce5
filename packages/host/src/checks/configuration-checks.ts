/** What root wrote once: which machine this is, what systemd makes at boot, and how the machine's key is protected. */
import { existsSync, readFileSync } from "node:fs";
import { machineKeyFile, systemHost } from "@bureau/os/layout";
import { formatMachineConf, type MachineConf } from "@bureau/os/machine-conf";
import { daemonUnit, launcherUnit } from "@bureau/os/unit-names";
import type { Action } from "../resources/registry.ts";
import { hostSecret } from "../system/first-boot.ts";
import { look, octal, type Seen, textOf } from "../system/look.ts";
import { describeSeal, type SealingHost, sealOf, whyNeverOpened } from "../system/sealed-key.ts";
import { type HostFile, profileFile, sysusersFile, tmpfilesFile } from "../units/host-files.ts";
import {
  byFix,
  type Check,
  everyInstallation,
  type Finding,
  fail,
  hidden,
  pass,
  type Remedy,
  systemOnly,
  warn,
} from "./check.ts";
import type { HostView } from "./host-view.ts";
import { join, joinAgain, provisionHint } from "./joining.ts";
import { rootFile } from "./root-file.ts";

const noSystemFiles = systemOnly("a rootless instance writes nothing outside its folder");

export const configurationChecks: readonly Check[] = [
  {
    id: "machine-conf",
    group: "configuration",
    title: systemHost.machineConf,
    expected: "valid, root:root 0644",
    repair: byFix(
      "writes it from --homeserver, --machine-name, --server-name, --fleet, or from the bootstrap file",
    ),
    scope: noSystemFiles,
    run: machineConf,
  },
  hostFile("sysusers-file", "Accounts for systemd-sysusers", sysusersFile),
  hostFile("tmpfiles-file", "Folders for systemd-tmpfiles", tmpfilesFile),
  hostFile("profile-file", "Commands on the PATH of users", profileFile),
  {
    id: "machine-key",
    group: "configuration",
    title: "Protection of the machine's key",
    expected: "sealed by systemd-creds, to the TPM where there is one; not in clear anywhere",
    repair: {
      kind: "fix",
      text: "makes it when the machine joins",
      byHand: "join again with a new bootstrap file",
    },
    scope: everyInstallation,
    run: machineKey,
  },
];

function hostFile(id: string, title: string, file: HostFile): Check {
  return {
    id,
    group: "configuration",
    title,
    expected: `${file.path} as this version writes it, root:root 0644`,
    repair: byFix("writes it"),
    scope: noSystemFiles,
    run: () => rootFile(file),
  };
}

async function machineConf(host: HostView): Promise<Finding> {
  const seen = look(systemHost.machineConf);
  if (seen.kind === "hidden") return hidden("you may not look there");
  if (seen.kind === "file" && (seen.mode & 0o444) !== 0o444 && !host.isRoot)
    return fail(`uid ${seen.uid}, ${octal(seen.mode)}`, { hint: `sudo chmod 644 ${systemHost.machineConf}` });
  const { conf, problem } = host.conf();
  const { wanted } = host;
  if (conf === undefined) {
    const found = seen.kind === "absent" ? "missing" : (problem?.message ?? "cannot be read");
    return fail(found, wanted === undefined ? { hint: missingFlags } : await writeAndRestart(host, wanted));
  }
  if (wanted !== undefined && formatMachineConf(wanted) !== formatMachineConf(conf))
    return fail(
      `for ${conf.machine} at ${conf.homeserverUrl}, but the flags say ${wanted.machine} at ${wanted.homeserverUrl}`,
      await writeAndRestart(host, wanted),
    );
  if (seen.kind !== "file" || seen.uid !== 0 || seen.mode !== 0o644)
    return fail(
      seen.kind === "file" ? `uid ${seen.uid}, ${octal(seen.mode)}` : `a ${seen.kind} is there instead`,
      { actions: [writeConf(wanted ?? conf)] },
    );
  return pass(`${conf.machine} at ${conf.homeserverUrl}`);
}

const writeConf = (conf: MachineConf): Action => ({
  kind: "file",
  path: systemHost.machineConf,
  text: formatMachineConf(conf),
  mode: 0o644,
});

/** Running programs read the file when they started. */
async function writeAndRestart(host: HostView, conf: MachineConf): Promise<Remedy> {
  const units = await host.units();
  const running = [launcherUnit, daemonUnit].filter((name) => units.get(name)?.active === "active");
  return { actions: [writeConf(conf), ...running.map((unit): Action => ({ kind: "restart", unit }))] };
}

const missingFlags =
  "bureau machine doctor --fix --homeserver URL --machine-name NAME --server-name NAME --fleet FLEET --bootstrap-file FILE";

/** systemd's exit code for a service whose credentials it cannot set up (systemd.exec(5), EXIT_CREDENTIALS). */
const CREDENTIALS_FAILED = 243;

async function machineKey(host: HostView): Promise<Finding> {
  const path = machineKeyFile(host.layout);
  const clear = look(path);
  if (host.kind === "rootless") return ownKey(path, clear);
  const sealed = look(systemHost.sealedKey);
  const isHidden = sealed.kind === "hidden" || clear.kind === "hidden";
  if (sealed.kind === "absent" || (isHidden && !host.hasJoined()))
    return fail("no key", host.hasBootstrap ? { actions: [{ kind: "seal-key" }] } : join(host));
  if (isHidden) return (await refusedBySystemd(host)) ?? hidden("only root may look");
  if (clear.kind !== "absent") return fail(`in clear in ${path}`, joinAgain(host));
  if (sealed.kind !== "file" || sealed.uid !== 0 || (sealed.mode & 0o077) !== 0)
    return fail(
      sealed.kind === "file"
        ? `uid ${sealed.uid}, ${octal(sealed.mode)}`
        : `a ${sealed.kind} is there instead`,
      { hint: `sudo chown root:root ${systemHost.sealedKey}; sudo chmod 600 ${systemHost.sealedKey}` },
    );
  const seal = sealOf(textOf(systemHost.sealedKey) ?? "");
  if (seal === "none" || seal === "unknown") return fail(describeSeal(seal), joinAgain(host));
  const lost = whyNeverOpened(seal, sealingHost());
  if (lost !== undefined) return fail(`it can never be opened: ${lost}`, wayBack(host));
  return (await refusedBySystemd(host)) ?? pass(describeSeal(seal));
}

function ownKey(path: string, seen: Seen): Finding {
  if (seen.kind === "hidden") return hidden("you may not look");
  if (seen.kind === "absent") return fail("no key", { hint: "bureau up" });
  return seen.kind === "file" && (seen.mode & 0o077) === 0
    ? warn("a file only you may read; a rootless instance cannot seal it")
    : fail(`mode ${seen.kind === "file" ? octal(seen.mode) : seen.kind}`, { hint: `chmod 600 ${path}` });
}

const sealingHost = (): SealingHost => ({
  secret: existsSync(hostSecret) ? readFileSync(hostSecret) : undefined,
  machineId: readFileSync("/etc/machine-id", "utf8"),
  hasTpm: existsSync("/sys/class/tpm/tpm0"),
});

/** Only systemd opens the key. The launcher's exit code tells that it could not. */
async function refusedBySystemd(host: HostView): Promise<Finding | undefined> {
  const launcher = (await host.units()).get(launcherUnit);
  return launcher?.exitStatus === CREDENTIALS_FAILED && launcher.active !== "active"
    ? fail(`systemd cannot open it: ${launcherUnit} exited with ${CREDENTIALS_FAILED}`, wayBack(host))
    : undefined;
}

/** A copied disk is another machine. A machine with a new machine id can get its old one back. */
function wayBack(host: HostView): Remedy {
  const again = joinAgain(host);
  if (again.actions !== undefined) return again;
  return {
    hint: `on a copied disk: ${provisionHint}, with a name of its own for the copy; on the same machine: an administrator revokes it first (machine revoke); where only /etc/machine-id was changed and ${hostSecret} still exists: put the old id back and reboot`,
  };
}
