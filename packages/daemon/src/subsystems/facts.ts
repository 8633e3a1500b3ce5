/** What this machine is, as it publishes it. */
import { version } from "@bureau/kit/version";
import type { Ed25519Key } from "@bureau/os/ed25519";
import { machinePublicKeyFile } from "@bureau/os/layout";
import { subsystem } from "../assembly/subsystem.ts";
import { readHardware } from "../hardware/machine-info.ts";
import type { Facts } from "../heartbeat/publish-facts.ts";

export const facts = subsystem({
  name: "facts",
  needs: { signingKey: true },
  start({ signingKey }: { signingKey: Ed25519Key }, { config, session, log }) {
    const hardware = readHardware();
    const part: Facts = {
      session,
      version,
      log,
      hardware,
      keyFile: machinePublicKeyFile(config.layout),
      signingKey: signingKey.publicKey,
    };
    return { part };
  },
});
