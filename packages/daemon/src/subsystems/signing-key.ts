/** The key that signs service tokens. */
import { tokenSigningKeyFile } from "@bureau/os/layout";
import { subsystem } from "../assembly/subsystem.ts";
import { openSigningKey } from "../services/open-signing-key.ts";

export const signingKey = subsystem({
  name: "signingKey",
  needs: {},
  start(_needs: object, { config }) {
    return { part: openSigningKey(tokenSigningKeyFile(config.layout)) };
  },
});
