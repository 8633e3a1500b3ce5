/**
 * Starts the embedded homeserver of an instance. Programs of the instance reach it over a socket in a folder that only its
 * user may enter, so that no other program can answer in its place. Other clients use a port, when one was configured; no
 * secret of the instance passes there.
 */
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { waitFor } from "@bureau/kit/wait-for";
import { serverVersions } from "@bureau/matrix/auth";
import type { EgressSettings } from "@bureau/os/egress";
import { egressFetch } from "@bureau/os/egress";
import type { InstanceLayout } from "@bureau/os/layout";
import { waitUntilGone } from "@bureau/os/process-end";
import { findByArguments, listensOnTcp, signalProcess } from "@bureau/os/process-table";
import { parseListenAddress } from "@bureau/schema/homeserver-address";
import { createInstance, findInstance, homeserverAddress, type Instance, writeInstance } from "./instance.ts";
import { moveToSocket } from "./move-to-socket.ts";
import { startAndWatch } from "./start-and-watch.ts";
import { supervisorStatus } from "./supervisor-wire.ts";

/** The homeserver binds a free port at once, and retries every second. */
const PORT_MS_MAX = 5_000;
/** It answers pending requests first, for at most a second. */
const END_MS_MAX = 10_000;

/** Changes by the flags of `bureau up`; an undefined field stays as it is. */
export type NetworkChange = {
  /** `HOST:PORT` for other clients; `none` closes the port. */
  readonly listen: string | undefined;
  readonly egress: { readonly [name in keyof EgressSettings]: string | undefined };
};

export async function startHomeserver(
  layout: InstanceLayout,
  change: NetworkChange,
  clock: Clock,
): Promise<Instance> {
  const instance = await chooseInstance(layout, change, clock);
  await startAndWatch(instance, "homeserver", clock, async () =>
    serverVersions({ homeserver: instance.homeserverUrl, fetch: egressFetch, timeoutMs: 2_000 }).catch(
      () => undefined,
    ),
  );
  if (instance.listen !== undefined) await requirePort(instance, instance.listen, clock);
  return instance;
}

async function chooseInstance(
  layout: InstanceLayout,
  change: NetworkChange,
  clock: Clock,
): Promise<Instance> {
  const { listen: wanted } = change;
  const given = wanted === "none" ? undefined : wanted;
  const known = findInstance(layout);
  if (known === undefined) {
    const made = createInstance(layout, given);
    return writeInstance({ ...made, egress: changed(made.egress, change.egress) });
  }
  const isRunning = (await pidOf(layout)) !== undefined;
  const isElsewhere = known.homeserverUrl !== homeserverAddress(layout);
  // A running homeserver of an earlier version keeps its port: daemon and proxies know no other address.
  const here = isElsewhere && !isRunning ? moveToSocket(known) : known;
  const egress = changed(here.egress, change.egress);
  const hasNewEgress = !Bun.deepEquals(egress, here.egress);
  if (hasNewEgress && isRunning)
    throw new BureauError("conflict", "Cannot change the proxies' network settings while they run", {
      hint: "bureau down, then this command again",
    });
  const hasNewPort = wanted !== undefined && given !== here.listen;
  if (!hasNewEgress && !hasNewPort) return here;
  const after = writeInstance({ ...here, egress, listen: hasNewPort ? given : here.listen });
  if (isRunning && hasNewPort) await endHomeserver(layout, clock);
  return after;
}

/** The supervisor starts it again, with the new address. */
async function endHomeserver(layout: InstanceLayout, clock: Clock): Promise<void> {
  for (const process of findByArguments("--data-dir", layout.homeserverDir))
    if (signalProcess(process, "SIGTERM")) await waitUntilGone(process, END_MS_MAX, clock);
}

/** An empty value removes a setting. */
function changed(before: EgressSettings, change: NetworkChange["egress"]): EgressSettings {
  const { httpsProxy = before.httpsProxy, noProxy = before.noProxy, caCerts = before.caCerts } = change;
  return { httpsProxy, noProxy, caCerts };
}

async function pidOf(layout: InstanceLayout): Promise<number | undefined> {
  const { programs } = await supervisorStatus(layout);
  return programs.find(({ name }) => name === "homeserver")?.pid;
}

/** @throws BureauError `conflict` when another program has the port */
async function requirePort(instance: Instance, listen: string, clock: Clock): Promise<void> {
  const address = parseListenAddress(listen);
  if (address.kind === "unix") return;
  const listens = await waitFor(
    async () => {
      const pid = await pidOf(instance.layout);
      return pid !== undefined && listensOnTcp(pid, address.port) ? true : undefined;
    },
    { timeoutMs: PORT_MS_MAX, clock },
  );
  if (listens === undefined)
    throw new BureauError("conflict", `Cannot bind ${listen}: the port is in use`, {
      hint: `stop the program that has it (ss -ltnp names it), or: bureau up --listen none, or another HOST:PORT`,
    });
}
