/**
 * The lab's homeserver: Matrix at `http://<address of hs>:6167`, server name `bureau.lab`, registration by token.
 *
 * `embedded` is the build's own, a unit of a machine `hs`. `synapse` is the reference engine, as the other suites run it:
 * with this host's Python, on `hs`'s network, outside of any machine.
 */
import { randomBytes } from "node:crypto";
import { BureauError, messageOf } from "@bureau/kit/errors";
import { startSynapse } from "@bureau/testkit/synapse";
import type { Enclosure } from "./enclosure.ts";
import { buildInside, type Machine } from "./machine.ts";

export type HomeserverOptions = { readonly engine: "embedded" | "synapse" };

export type LabHomeserver = {
  /** Its address for every machine of the lab. */
  readonly url: string;
  readonly serverName: string;
  /** Registers any number of accounts. */
  readonly registrationToken: string;
  /** Token of a server admin, where the first account is not one. */
  readonly adminToken: string | undefined;
  /** Stops it, as an outage would; `start` starts it again with its data. */
  stop(): Promise<void>;
  start(): Promise<void>;
};

/** The parts of its lab that a homeserver needs. */
export type HomeserverSite = {
  boot(name: string): Promise<Machine>;
  /** An address in the lab for a program that is not a machine. */
  claim(name: string): Promise<string>;
  introduce(): Promise<void>;
  readonly enclosure: Enclosure;
  readonly folder: string;
};

/** Its name on the lab's network. */
export const HOMESERVER = "hs";
const PORT = 6167;
export const SERVER_NAME = "bureau.lab";
const UNIT = "lab-homeserver.service";
const STATE = "/var/lib/lab-homeserver";
const START_MS_MAX = 60_000;

export const startLabHomeserver = (
  site: HomeserverSite,
  options: HomeserverOptions,
): Promise<LabHomeserver> => (options.engine === "embedded" ? startEmbedded(site) : startSynapseIn(site));

async function startEmbedded(site: HomeserverSite): Promise<LabHomeserver> {
  const hs = await site.boot(HOMESERVER);
  const registrationToken = randomBytes(16).toString("hex");
  await hs.writeFile(`${STATE}/registration-token`, registrationToken, { mode: 0o600 });
  await hs.writeFile(`/etc/systemd/system/${UNIT}`, unitFile(hs.address));
  const url = `http://${hs.address}:${PORT}`;
  const start = async (): Promise<void> => {
    try {
      await hs.ok(`systemctl start ${UNIT}`);
      await hs.eventually(`curl -fsS --max-time 5 ${url}/_matrix/client/versions`, {
        timeoutMs: START_MS_MAX,
      });
    } catch (error) {
      const journal = await hs.journal(UNIT);
      throw new BureauError(
        "failed",
        `The lab's homeserver does not answer: ${messageOf(error)}\n${journal}`,
      );
    }
  };
  await hs.ok(`systemctl daemon-reload && systemctl enable ${UNIT}`);
  await start();
  const stop = async (): Promise<void> => void (await hs.ok(`systemctl stop ${UNIT}`));
  return { url, serverName: SERVER_NAME, registrationToken, adminToken: undefined, start, stop };
}

const unitFile = (address: string): string => `[Unit]
Description=Matrix homeserver of the lab

[Service]
ExecStart=${buildInside}/bin/bureau-homeserver --data-dir ${STATE} --server-name ${SERVER_NAME} --listen ${address}:${PORT} --registration-token-file ${STATE}/registration-token
Restart=on-failure

[Install]
WantedBy=multi-user.target
`;

async function startSynapseIn(site: HomeserverSite): Promise<LabHomeserver> {
  const address = await site.claim(HOMESERVER);
  const synapse = await startSynapse({
    serverName: SERVER_NAME,
    address,
    port: PORT,
    folder: site.folder,
    enter: (command) => site.enclosure.enter(["ip", "netns", "exec", HOMESERVER, ...command]),
  });
  await site.introduce();
  const { url, serverName, registrationToken, adminToken } = synapse;
  return { url, serverName, registrationToken, adminToken, start: synapse.resume, stop: synapse.interrupt };
}
