/** What root wrote once: which machine this is, what systemd makes at boot, and how the machine's key is kept. */

import { machineKeyFile, systemHost } from "@bureau/kit/layout";
import { formatMachineConf, type MachineConf } from "@bureau/kit/machine-conf";
import {
  daemonUnit,
  type HostFile,
  launcherUnit,
  profileFile,
  sysusersFile,
  tmpfilesFile,
} from "../../system/units.ts";
import type { Action } from "../action.ts";
import { type Check, type Finding, fail, pass, skip, warn } from "../check.ts";
import type { HostView } from "../host-view.ts";
import { look, octal, textOf } from "../look.ts";
import { describeSeal, sealOf } from "../sealed-key.ts";

const noSystemFiles = "a rootless instance writes nothing outside its folder";

export const configurationChecks: readonly Check[] = [
  {
    id: "machine-conf",
    group: "configuration",
    title: systemHost.machineConf,
    expected: "valid, root:root 0644",
    repair: "written from --homeserver, --machine-name, --server-name, --fleet, or from the bootstrap file",
    systemOnly: noSystemFiles,
    probe: machineConf,
  },
  hostFile("sysusers-file", "Accounts for systemd-sysusers", sysusersFile),
  hostFile("tmpfiles-file", "Folders for systemd-tmpfiles", tmpfilesFile),
  hostFile("profile-file", "Commands on people's PATH", profileFile),
  {
    id: "machine-key",
    group: "configuration",
    title: "Protection of the machine's key",
    expected: "sealed by systemd-creds, to the TPM where there is one; nowhere in clear",
    repair: "made when the machine joins; by hand otherwise: join again with a new bootstrap file",
    probe: machineKey,
  },
];

function hostFile(id: string, title: string, file: HostFile): Check {
  return {
    id,
    group: "configuration",
    title,
    expected: `${file.path} as this version writes it, root:root 0644`,
    repair: "written",
    systemOnly: noSystemFiles,
    probe: () => rootFile(file),
  };
}

/** A file whose whole text is ours. */
export function rootFile({ path, text }: HostFile): Finding {
  const seen = look(path);
  const write = { actions: [{ kind: "file", path, text, mode: 0o644 } as const] };
  if (seen.kind === "absent") return fail("missing", write);
  if (seen.kind === "hidden") return skip("you may not look there");
  if (seen.kind === "folder") return fail("a folder lies there", { hint: `move it away: ls -l ${path}` });
  if (seen.kind !== "file") return fail(`a ${seen.kind} lies there`, write);
  if (seen.uid !== 0 || seen.gid !== 0 || seen.mode !== 0o644)
    return fail(`uid ${seen.uid}, gid ${seen.gid}, ${octal(seen.mode)}`, write);
  return textOf(path) === text ? pass("as written") : fail("its text was changed", write);
}

async function machineConf(host: HostView): Promise<Finding> {
  const { conf, problem } = host.conf();
  const { wanted } = host;
  const seen = look(systemHost.machineConf);
  if (conf === undefined) {
    const found = seen.kind === "absent" ? "missing" : (problem?.message ?? "it cannot be read");
    return fail(found, wanted === undefined ? { hint: missingFlags } : await writeAndRestart(host, wanted));
  }
  if (wanted !== undefined && formatMachineConf(wanted) !== formatMachineConf(conf))
    return fail(
      `it is for ${conf.machine} at ${conf.homeserverUrl}, the flags say ${wanted.machine} at ${wanted.homeserverUrl}`,
      await writeAndRestart(host, wanted),
    );
  if (seen.kind !== "file" || seen.uid !== 0 || seen.mode !== 0o644)
    return fail(seen.kind === "file" ? `uid ${seen.uid}, ${octal(seen.mode)}` : `a ${seen.kind} lies there`, {
      actions: [writeConf(wanted ?? conf)],
    });
  return pass(`${conf.machine} at ${conf.homeserverUrl}`);
}

const writeConf = (conf: MachineConf): Action => ({
  kind: "file",
  path: systemHost.machineConf,
  text: formatMachineConf(conf),
  mode: 0o644,
});

/** What runs was told what the file said when it was started. */
async function writeAndRestart(host: HostView, conf: MachineConf): Promise<Pick<Finding, "actions">> {
  const units = await host.units();
  const running = [launcherUnit, daemonUnit].filter((name) => units.get(name)?.active === "active");
  return { actions: [writeConf(conf), ...running.map((unit): Action => ({ kind: "restart", unit }))] };
}

export const missingFlags =
  "bureau machine doctor --fix --homeserver URL --machine-name NAME --server-name NAME --fleet FLEET --bootstrap-file FILE";

function machineKey(host: HostView): Finding {
  const clear = look(machineKeyFile(host.layout));
  if (host.kind === "rootless") {
    if (clear.kind === "absent") return fail("there is none", { hint: "bureau up" });
    const kept = "a file only you may read; a rootless instance cannot seal it";
    return clear.kind === "file" && (clear.mode & 0o077) === 0
      ? warn(kept)
      : fail(`mode ${clear.kind === "file" ? octal(clear.mode) : clear.kind}`, {
          hint: `chmod 600 ${machineKeyFile(host.layout)}`,
        });
  }
  const sealed = look(systemHost.sealedKey);
  if (sealed.kind === "hidden" || clear.kind === "hidden") return skip("only root may look");
  if (clear.kind !== "absent")
    return fail(`in clear in ${machineKeyFile(host.layout)}`, {
      hint: "join again with a new bootstrap file: it makes a new, sealed key",
    });
  if (sealed.kind === "absent")
    return host.hasBootstrap
      ? fail("there is none", { actions: [{ kind: "seal-key" }] })
      : fail("there is none", { hint: "bureau machine doctor --fix --bootstrap-file FILE" });
  if (sealed.kind !== "file" || sealed.uid !== 0 || (sealed.mode & 0o077) !== 0)
    return fail(
      sealed.kind === "file" ? `uid ${sealed.uid}, ${octal(sealed.mode)}` : `a ${sealed.kind} lies there`,
      { hint: `sudo chown root:root ${systemHost.sealedKey}; sudo chmod 600 ${systemHost.sealedKey}` },
    );
  const seal = sealOf(textOf(systemHost.sealedKey) ?? "");
  if (seal === "none" || seal === "unknown")
    return fail(describeSeal(seal), {
      hint: "join again with a new bootstrap file: it makes a new, sealed key",
    });
  return pass(describeSeal(seal));
}
