/** The machine at its homeserver: the way there, its account, its config room, its session and its published key. */
import { isBureauError } from "@bureau/kit/errors";
import { isRevoked } from "@bureau/matrix/matrix-error";
import { MatrixSession } from "@bureau/matrix/session";
import { egressFetch, readCertificates } from "@bureau/os/egress";
import { machinePublicKeyFile, machineSessionFile } from "@bureau/os/layout";
import { daemonUnit, REVOKED } from "@bureau/os/unit-names";
import { eventTypes } from "@bureau/schema/events";
import { aliasOf, fleetOf, rooms, stateKeyOf, userIdOf } from "@bureau/schema/refs";
import { look, textOf } from "../system/look.ts";
import { askAlias } from "./ask-homeserver.ts";
import {
  byFix,
  byHand,
  type Check,
  everyInstallation,
  type Finding,
  fail,
  hidden,
  pass,
  type Remedy,
  skip,
  warn,
} from "./check.ts";
import type { HostView } from "./host-view.ts";
import { join, joinAgain, provisionHint } from "./joining.ts";

export const matrixChecks: readonly Check[] = [
  {
    id: "egress",
    group: "matrix",
    title: "Network egress",
    expected: "certificates can be read, and no token passes a forward proxy in clear",
    repair: byFix("writes machine.conf from --https-proxy, --no-proxy, --ca-certs"),
    scope: everyInstallation,
    run: egress,
  },
  {
    id: "homeserver",
    group: "matrix",
    title: "Homeserver",
    expected: "answers as a Matrix homeserver",
    repair: byHand("start it, or correct its address in machine.conf"),
    scope: everyInstallation,
    run: async (host) => {
      const answer = await host.homeserver();
      if (answer === undefined) return skip("no homeserver known: machine.conf is missing");
      return answer.problem === undefined
        ? pass(answer.url)
        : fail(`${answer.url}: ${answer.problem}`, {
            hint: "start it, or correct its address in machine.conf",
          });
    },
  },
  {
    id: "machine-joined",
    group: "matrix",
    title: "First boot",
    expected: "this machine has joined its fleet",
    repair: byFix("joins with the file of --bootstrap-file"),
    scope: everyInstallation,
    run: joined,
  },
  {
    id: "machine-session",
    group: "matrix",
    title: "Session of this machine",
    expected: "valid",
    repair: byFix("joins again with the new file of --bootstrap-file"),
    scope: everyInstallation,
    run: sessionValid,
  },
  {
    id: "config-room",
    group: "matrix",
    title: "Config room",
    expected: "exists",
    repair: byHand("an administrator provisions the machine again"),
    scope: everyInstallation,
    run: configRoom,
  },
  {
    id: "published-key",
    group: "matrix",
    title: "Published key",
    expected: "the fleet's machine room holds this machine's public key",
    repair: byHand("join again with a new bootstrap file, then renew the principals' credentials"),
    scope: everyInstallation,
    run: publishedKey,
  },
];

function egress(host: HostView): Finding {
  const settings = host.egress();
  if (settings === undefined) return skip("machine.conf has no such setting");
  const { httpsProxy, noProxy, caCerts } = settings;
  const parts = [httpsProxy === "" ? "direct" : `TLS through ${httpsProxy}`];
  if (noProxy !== "") parts.push(`except to ${noProxy}`);
  if (caCerts !== "") {
    try {
      parts.push(`${readCertificates(caCerts).length} more authorities from ${caCerts}`);
    } catch (error) {
      if (!isBureauError(error)) throw error;
      return fail(error.message, { hint: error.hint });
    }
  }
  const homeserver = host.identity()?.homeserverUrl ?? "";
  const found = parts.join(", ");
  return httpsProxy !== "" && homeserver.startsWith("http:")
    ? warn(
        `${found}; the homeserver ${homeserver} has no TLS, so requests to it do not go through the proxy`,
        {
          hint: "use an https address of the homeserver to reach it through the proxy",
        },
      )
    : pass(found);
}

async function joined(host: HostView): Promise<Finding> {
  const seen = look(machineSessionFile(host.layout));
  if (seen.kind === "file") return pass("joined");
  if (host.kind === "rootless")
    return seen.kind === "hidden" ? hidden("you may not look") : fail("not yet", { hint: "bureau up" });
  if (seen.kind !== "hidden" || !host.hasJoined()) return fail("not yet", join(host));
  const report = await host.report();
  return isBureauError(report)
    ? hidden("only root may look, and the daemon does not answer")
    : pass(report.machine.user_id);
}

async function sessionValid(host: HostView): Promise<Finding> {
  const daemon = host.kind === "system" ? (await host.units()).get(daemonUnit) : undefined;
  const repair = joinAgain(host);
  const session = host.session();
  if (session === "absent" || !host.hasJoined()) return skip("this machine has not joined yet");
  if (typeof session === "object" && "problem" in session) return fail(session.problem, repair);
  if (typeof session === "object") {
    const identity = host.identity();
    if (identity !== undefined && session.userId !== userIdOf(identity.machine, identity.serverName))
      return fail(`of ${session.userId}, but this machine is ${identity.machine}`, repair);
    const answer = await askWhoami(new MatrixSession({ ...session, fetch: egressFetch }), repair);
    // A daemon that exited because of an earlier session proves nothing about this one.
    if (answer.status !== "skip") return answer;
  }
  if (daemon?.exitStatus === REVOKED && daemon.active !== "active")
    return fail("revoked: this machine was decommissioned, or its account was closed", repair);
  const report = await host.report();
  if (isBureauError(report)) return hidden("only root may look, and the daemon does not answer");
  const { state, reason, user_id } = report.machine;
  if (state === "online") return pass(user_id);
  return warn(`the daemon is ${state}${reason === undefined ? "" : `: ${reason}`}`);
}

async function askWhoami(session: MatrixSession, repair: Remedy): Promise<Finding> {
  try {
    const { userId } = await session.whoami();
    return userId === session.userId ? pass(userId) : fail(`of ${userId}, not ${session.userId}`, repair);
  } catch (error) {
    if (!isBureauError(error)) throw error;
    if (isRevoked(error) || error.code === "forbidden" || error.code === "unauthorized")
      return fail(`refused by the homeserver: ${error.message}`, repair);
    return skip(`no answer from the homeserver: ${error.message}`);
  }
}

async function configRoom(host: HostView): Promise<Finding> {
  const identity = host.identity();
  const answer = await host.homeserver();
  if (identity === undefined || answer === undefined) return skip("machine.conf is missing");
  if (answer.problem !== undefined) return skip("the homeserver does not answer");
  const alias = aliasOf(rooms.config(identity.machine), identity.serverName);
  const session = host.session();
  switch (
    await askAlias(
      answer.url,
      alias,
      typeof session === "object" && "token" in session ? session.token : undefined,
    )
  ) {
    case "exists":
      return pass(alias);
    case "missing":
      return fail(`no room ${alias}`, {
        hint: "an administrator provisions the machine: bureau machine provision",
      });
    case "unknown":
      break;
  }
  const report = await host.report();
  return !isBureauError(report) && report.machine.state === "online"
    ? pass("the daemon is in it")
    : skip("the homeserver does not tell");
}

async function publishedKey(host: HostView): Promise<Finding> {
  const session = host.session();
  if (session === "hidden") return hidden("only root may look");
  const own = textOf(machinePublicKeyFile(host.layout))?.trim();
  if (typeof session !== "object" || "problem" in session || own === undefined)
    return skip("this machine has not joined yet");
  const identity = host.identity();
  const answer = await host.homeserver();
  if (identity === undefined || answer?.problem !== undefined) return skip("the homeserver does not answer");
  const ignored: string[] = [];
  const matrix = new MatrixSession({
    ...session,
    fetch: egressFetch,
    onIgnored: (sentence) => void ignored.push(sentence),
  });
  const repair = { hint: provisionHint };
  try {
    const room = await matrix.resolveAlias(
      aliasOf(rooms.fleetMachines(fleetOf(identity.machine)), identity.serverName),
    );
    if (room === undefined)
      return fail("the fleet has no machine room", {
        hint: "an administrator makes the fleet: bureau fleet create",
      });
    const key = stateKeyOf(userIdOf(identity.machine, identity.serverName));
    const content = await matrix.getState(room, eventTypes.machineKey, key);
    const published =
      typeof content === "object" && content !== null && "public_key" in content
        ? content.public_key
        : undefined;
    const restart = host.kind === "system" ? "systemctl restart bureau-daemon" : "bureau down; bureau up";
    if (ignored.length > 0)
      return fail(ignored.join("; "), { hint: `${restart}: the daemon publishes its own again at startup` });
    if (published === undefined) return fail("none is published", repair);
    return published === own
      ? pass(own)
      : fail(`published is ${String(published)}, but this machine has ${own}`, repair);
  } catch (error) {
    if (!isBureauError(error)) throw error;
    return skip(`no answer from the homeserver: ${error.message}`);
  }
}
