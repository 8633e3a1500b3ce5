/**
 * Makes and seals a machine's age key, which is never in clear on a disk, and runs first boot under systemd, as the system
 * user, with the key opened for that one process.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { machineSessionFile, systemHost, systemLayout } from "@bureau/os/layout";
import type { MachineConf } from "@bureau/os/machine-conf";
import { forRoot, replaceFile } from "./root-files.ts";
import { mustRun, runCommand } from "./run-command.ts";

/** systemd's own secret. Sealing the first credential with it makes it (systemd-creds(1)). */
export const hostSecret = "/var/lib/systemd/credential.secret";

/** The name of the credential for the launcher. */
const keyCredential = "machine-key";

/** Exists only during first boot. */
export const firstBootUnit = "bureau-first-boot.service";

const launcher = join(systemHost.currentPrograms, "bin", "bureau-launcher");

/** First boot's own limit is two minutes (wire facts, section 9.13). */
const FIRST_BOOT_MS_MAX = 150_000;

export async function hasTpm(): Promise<boolean> {
  return (await runCommand(["systemd-creds", "has-tpm2", "--quiet"])).code === 0;
}

/**
 * Makes a new key and seals it. The key goes through one pipe from the program that makes it, of the build at `programs`,
 * to the one that seals it.
 *
 * Root works in a folder that the system user may change at any moment: it runs nothing there, and touches no file by a name
 * that could lead elsewhere by then.
 */
export async function sealMachineKey(programs: string): Promise<void> {
  // No PCRs: a firmware update must not make the key unusable.
  const how = (await hasTpm()) ? ["--with-key=tpm2", "--tpm2-pcrs="] : ["--with-key=host"];
  const script = `exec 4>&1
codes=$({ { "$1" --new-key 3>&- 4>&-; echo $? >&3; } | { shift; systemd-creds encrypt "$@" 3>&- >&4; echo $? >&3; }; } 3>&1)
[ "$codes" = "0
0" ]`;
  const maker = join(programs, "bin", "bureau-launcher");
  const { stdout } = await mustRun([
    "sh",
    "-c",
    script,
    "sh",
    maker,
    `--name=${keyCredential}`,
    ...how,
    "-",
    "-",
  ]);
  replaceFile(systemHost.sealedKey, stdout, forRoot);
}

/** Joins the fleet with `bootstrap`, the text of a bootstrap file. Ends when the machine's session is written. */
export async function firstBoot(conf: MachineConf, bootstrap: string): Promise<void> {
  if (!existsSync(systemHost.sealedKey))
    throw new BureauError("failed", `Cannot join: no sealed key in "${systemHost.sealedKey}"`);
  // An earlier doctor that was killed may have left it running.
  await runCommand(["systemctl", "stop", firstBootUnit]);
  await runCommand(["systemctl", "reset-failed", firstBootUnit]);
  const properties = [
    `User=${conf.systemUser}`,
    `Group=${conf.systemUser}`,
    "PrivateTmp=yes",
    "NoNewPrivileges=yes",
    `EnvironmentFile=${systemHost.machineConf}`,
    `LoadCredentialEncrypted=${keyCredential}:${systemHost.sealedKey}`,
  ];
  await mustRun(
    [
      ...["systemd-run", "--quiet", "--collect", "--pipe", "--wait", `--unit=${firstBootUnit}`],
      ...properties.flatMap((property) => ["-p", property]),
      ...["--", launcher, "--first-boot-only", "--bootstrap-file", "-", "--homeserver", conf.homeserverUrl],
      ...["--machine-name", conf.machine, "--server-name", conf.serverName, "--fleet", conf.fleet],
    ],
    { stdin: bootstrap, timeoutMs: FIRST_BOOT_MS_MAX },
  );
  if (!existsSync(machineSessionFile(systemLayout)))
    throw new BureauError(
      "failed",
      `First boot ended without a session in "${machineSessionFile(systemLayout)}"`,
    );
}
