/**
 * The machine's key, sealed so that only this machine opens it. The record notes the host's own secret of systemd, when
 * sealing makes it; the key itself is in the state folder, and goes with that.
 */
import { accessSync, constants, existsSync, readdirSync, realpathSync } from "node:fs";
import { errnoOf } from "@bureau/kit/errors";
import { buildDir } from "@bureau/os/build-dir";
import { removeDurably } from "@bureau/os/durable-file";
import * as v from "valibot";
import { hasTpm, hostSecret, sealMachineKey } from "../system/first-boot.ts";
import { runCommand } from "../system/run-command.ts";
import { at, defineAction, defineEntry } from "./resource.ts";

const entry = defineEntry(v.object({ kind: v.literal("credential-secret"), path: v.string(), at }), {
  rank: 100,
  idOf: ({ path }) => path,
  describe: ({ path }) => `host secret ${path}`,
  async whyStays() {
    const why = await otherCredentials();
    return why === undefined ? undefined : { reason: "needed", why };
  },
  freedPath: ({ path }) => path,
  takeBack: ({ path }) => removeDurably(path),
});

const action = defineAction(v.object({ kind: v.literal("seal-key") }), {
  rank: 140,
  attemptsMax: 1,
  isVital: true,
  describe: () => "make the machine's key and seal it with systemd-creds",
  async record(_, { record }) {
    if (!existsSync(hostSecret) && !(await hasTpm())) record.intend(entry, { path: hostSecret });
  },
  apply: () => sealMachineKey(realpathSync(buildDir())),
});

export const sealedKey = { action, entry };

/** Why others may need the host's secret; undefined when nothing else is sealed with it. */
async function otherCredentials(): Promise<string | undefined> {
  const stores = ["/etc/credstore.encrypted", "/run/credstore.encrypted", "/usr/lib/credstore.encrypted"];
  if (stores.some(isClosed)) return "only root may see whether others need it";
  const stored = stores.find((path) => existsSync(path) && readdirSync(path).length > 0);
  if (stored !== undefined) return `credentials in ${stored} may need it`;
  const folders = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/lib/systemd/system",
    "/usr/local/lib/systemd/system",
  ].filter((path) => existsSync(path));
  const { stdout } = await runCommand(["grep", "-rlE", "(Load|Set)CredentialEncrypted=", "--", ...folders]);
  const units = stdout.split("\n").filter((path) => path !== "" && !path.includes("/bureau-"));
  return units.length > 0
    ? `units load credentials sealed with it: ${units.slice(0, 3).join(", ")}`
    : undefined;
}

function isClosed(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return false;
  } catch (error) {
    return errnoOf(error) === "EACCES";
  }
}
