/**
 * The embedded homeserver of an instance: a port of its own, chosen once, and the certainty that whoever answers on it is
 * ours before anything secret is said.
 */
import { createServer } from "node:net";
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { waitForFileLock } from "@bureau/kit/file-lock";
import { type InstanceLayout, userLockFile } from "@bureau/kit/layout";
import { listensOnTcp } from "@bureau/kit/process-table";
import { serverVersions } from "@bureau/matrix/auth";
import { createInstance, findInstance, type Instance, portOf } from "./instance.ts";
import { START_MS_MAX, startAndWatch } from "./program-start.ts";
import { hasJoined } from "./supervisor.ts";
import { supervisorStatus } from "./supervisor-wire.ts";

/** The port the reference's homeserver has by default; any free one when it is taken. */
const PORT_PREFERRED = 6167;

/**
 * The instance, with a port that is free or its own homeserver's already. Until the machine has joined, the port may
 * still be chosen anew; afterwards it stands in sessions and credentials.
 */
async function chooseInstance(layout: InstanceLayout): Promise<Instance> {
  const known = findInstance(layout);
  if (known !== undefined && (hasJoined(layout) || (await isOurs(known)) || (await isFree(portOf(known)))))
    return known;
  return createInstance(layout, `http://127.0.0.1:${await freePort(PORT_PREFERRED)}`);
}

/** True when it is the instance's own homeserver that listens on its port: only then may it be told a secret. */
async function isOurs(instance: Instance): Promise<boolean> {
  const { programs } = await supervisorStatus(instance.layout);
  const pid = programs.find(({ name }) => name === "homeserver")?.pid;
  return pid !== undefined && listensOnTcp(pid, portOf(instance));
}

/** `wanted` when nobody listens there, else one the kernel picks. */
async function freePort(wanted: number): Promise<number> {
  const port = (await tryPort(wanted)) ?? (await tryPort(0));
  if (port === undefined) throw new BureauError("failed", "Cannot find a free TCP port on 127.0.0.1");
  return port;
}

const isFree = async (port: number): Promise<boolean> => (await tryPort(port)) !== undefined;

/** Listens for a moment; the port it got, or undefined. */
function tryPort(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen({ port, host: "127.0.0.1" }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : undefined));
    });
  });
}

/** From choosing a port to having it, one `bureau up` of a user at a time: two would choose the same. */
export async function startHomeserver(layout: InstanceLayout, clock: Clock): Promise<Instance> {
  using _turn = await waitForFileLock(userLockFile("ports", process.env), START_MS_MAX, clock);
  const instance = await chooseInstance(layout);
  await startAndWatch(instance, "homeserver", clock, async () => {
    if (!(await isOurs(instance))) return undefined;
    return serverVersions({ homeserver: instance.homeserverUrl, timeoutMs: 2_000 }).catch(() => undefined);
  });
  return instance;
}
