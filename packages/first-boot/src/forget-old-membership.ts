/**
 * A machine that left its fleet and was provisioned again finds a bootstrap file beside its old session. Only a file whose
 * one-time password works means that: then the old key and session are removed, and it joins as a new machine does. A file
 * left over from the boot that made the session is removed. After any other fault of the file the machine keeps its session.
 */
import { existsSync } from "node:fs";
import { messageOf } from "@bureau/kit/errors";
import { hasBooted } from "@bureau/launcher/first-boot-process";
import { removeDurably } from "@bureau/os/durable-file";
import { machineKeyFile, machinePublicKeyFile, machineSessionFile } from "@bureau/os/layout";
import { readBootstrapSource } from "./bootstrap-source.ts";
import {
  connectionTo,
  enter,
  type FirstBootDeps,
  isWrongPassword,
  removeBootstrapFile,
} from "./first-boot.ts";
import type { FirstBootConfig } from "./first-boot-config.ts";

/** Longest wait for a homeserver that does not answer; then the machine keeps its session. */
const LOGIN_MS_MAX = 10_000;

export async function forgetOldMembership(config: FirstBootConfig, deps: FirstBootDeps): Promise<void> {
  const { bootstrapFile, layout } = config;
  if (bootstrapFile === undefined || bootstrapFile === "-") return;
  if (!hasBooted(layout) || !existsSync(bootstrapFile)) return;
  try {
    const source = readBootstrapSource(config, deps.clock);
    const signal = AbortSignal.any([deps.signal, AbortSignal.timeout(LOGIN_MS_MAX)]);
    await enter(connectionTo(source.homeserverUrl, signal), config, source.secret.reveal());
  } catch (error) {
    if (isWrongPassword(error)) {
      deps.log.warn(
        "first-boot.file-used",
        "the bootstrap file was used already; this machine keeps its session",
        { path: bootstrapFile },
      );
      return removeBootstrapFile(bootstrapFile, deps.log);
    }
    deps.log.warn(
      "first-boot.file-unusable",
      "cannot use the bootstrap file; this machine keeps its session",
      {
        path: bootstrapFile,
        error: messageOf(error),
      },
    );
    return;
  }
  deps.log.info("first-boot.reprovisioned", "provisioned again: the old key and session are removed");
  // The session last: until it is gone, this is done again.
  for (const path of [machineKeyFile(layout), machinePublicKeyFile(layout), machineSessionFile(layout)])
    removeDurably(path);
}
