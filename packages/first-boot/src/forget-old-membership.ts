/**
 * A machine that left its fleet and was provisioned anew finds a bootstrap file beside its old session. Only a file whose
 * one-time password works means that: then old key and session go, and it joins as a new machine would. A file left over
 * from the boot that made the session is removed. Whatever else is wrong with it, the machine goes on as it is.
 */
import { existsSync } from "node:fs";
import { messageOf } from "@bureau/kit/errors";
import { removeDurably } from "@bureau/os/durable-file";
import { machineKeyFile, machinePublicKeyFile, machineSessionFile } from "@bureau/os/layout";
import type { LauncherConfig } from "@bureau/launcher/launcher-config";
import { readBootstrapSource } from "./bootstrap-source.ts";
import { type FirstBootDeps, hasBooted, isWrongPassword, removeBootstrapFile } from "./first-boot.ts";
import { HomeserverApi } from "./homeserver-api.ts";

/** The machine waits this long for a homeserver that is away, then goes on with what it has. */
const LOGIN_MS_MAX = 10_000;

export async function forgetOldLife(config: LauncherConfig, deps: FirstBootDeps): Promise<void> {
  const { bootstrapFile, layout, machine } = config;
  if (bootstrapFile === undefined || bootstrapFile === "-") return;
  if (!hasBooted(layout) || !existsSync(bootstrapFile)) return;
  try {
    const source = readBootstrapSource(config, deps.clock);
    const signal = AbortSignal.any([deps.signal, AbortSignal.timeout(LOGIN_MS_MAX)]);
    await new HomeserverApi(source.homeserverUrl, signal).login(machine, source.secret.reveal());
  } catch (error) {
    if (isWrongPassword(error)) {
      deps.log.warn(
        "first-boot.file-used",
        "the bootstrap file was used already; this machine goes on with its session",
        {
          path: bootstrapFile,
        },
      );
      return removeBootstrapFile(bootstrapFile, deps.log);
    }
    deps.log.warn(
      "first-boot.file-unusable",
      "cannot use the bootstrap file that lies here; this machine goes on with its session",
      {
        path: bootstrapFile,
        error: messageOf(error),
      },
    );
    return;
  }
  deps.log.info("first-boot.reprovisioned", "provisioned anew: the old key and session are forgotten");
  // The session last: until it is gone, this is done again.
  for (const path of [machineKeyFile(layout), machinePublicKeyFile(layout), machineSessionFile(layout)])
    removeDurably(path);
}
