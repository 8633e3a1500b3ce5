/** The sockets of the run folder: there, with owner, group and mode, and somebody behind each. */
import { connect } from "node:net";
import { basename } from "node:path";
import { errnoOf } from "@bureau/kit/errors";
import { limitWhileTurning } from "@bureau/kit/wait-for";
import { terminalsUnit } from "@bureau/os/unit-names";
import type { Action } from "../resources/registry.ts";
import { look, octal } from "../system/look.ts";
import { type HostSocket, hostSockets, unitFiles } from "../units/units.ts";
import { type Check, type Finding, fail, hidden, pass, skip } from "./check.ts";
import type { HostView } from "./host-view.ts";

export const socketChecks: readonly Check[] = hostSockets.map((socket): Check => {
  const name = basename(socket.path);
  return {
    id: `socket:${name}`,
    group: "sockets",
    title: socket.path,
    expected: `${socket.owner}:${socket.group} ${socket.modes.map(octal).join(" or ")}, answering`,
    repair: "its unit is started again, which makes the socket anew",
    probe: (host) => (host.kind === "system" ? systemSocket(host, socket) : ownSocket(host, name)),
  };
});

async function systemSocket(host: HostView, socket: HostSocket): Promise<Finding> {
  const seen = look(socket.path);
  const units = await host.units();
  const unit = units.get(unitOf(socket));
  const runs = unit?.active === "active";
  const isServed = units.get(unitOf(socket).replace(/\.socket$/, ".service"))?.active === "active";
  const again = { actions: [remedy(socket, runs || isServed)] };
  if (seen.kind === "hidden") return hidden("you may not look: only operators and root");
  if (seen.kind === "absent")
    return host.hasJoined() || host.hasBootstrap
      ? fail("missing", again)
      : skip("made once this machine has joined its fleet");
  if (seen.kind !== "socket") return fail(`a ${seen.kind} lies there`, again);
  const accounts = host.accounts();
  const found = `${accounts.userName(seen.uid)}:${accounts.groupName(seen.gid)} ${octal(seen.mode)}`;
  const isRight = socket.modes.some((mode) => found === `${socket.owner}:${socket.group} ${octal(mode)}`);
  if (!isRight) return fail(found, again);
  // systemd itself listens, and would start the service for whoever connects: a look is not to do that.
  if (runs && unit.sub === "listening")
    return pass(`${found}; its service is started by the first who connects`);
  return answer(socket.path, found, again);
}

async function ownSocket(host: HostView, name: string): Promise<Finding> {
  const path = `${host.layout.runDir}/${name}`;
  const expected = `${path}, answering`;
  const seen = look(path);
  const hint = { hint: "bureau up" };
  if (seen.kind === "hidden") return hidden("you may not look: a folder above is closed to you");
  if (seen.kind !== "socket")
    return { ...fail(seen.kind === "absent" ? "missing" : `a ${seen.kind}`, hint), expected };
  return { ...(await answer(path, octal(seen.mode), hint)), expected };
}

/** How long a local socket may take to accept. */
const CONNECT_MS_MAX = 2_000;

async function answer(
  path: string,
  found: string,
  repair: Pick<Finding, "actions" | "hint">,
): Promise<Finding> {
  const refusal = await refusalOf(path);
  if (refusal === undefined) return pass(found);
  if (refusal === "EACCES") return pass(`${found}; not yours to open`);
  return fail(`${found}, but nobody answers (${refusal})`, repair);
}

/** Undefined when somebody accepts at `path`, else why not. */
export function refusalOf(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    const end = (refusal: string | undefined): void => {
      limit[Symbol.dispose]();
      socket.destroy();
      resolve(refusal);
    };
    const limit = limitWhileTurning(CONNECT_MS_MAX, () => end("no answer"));
    socket.once("connect", () => end(undefined));
    socket.once("error", (error) => end(errnoOf(error) ?? "failed"));
  });
}

/** Who makes the socket: the socket unit that names it, else the terminals' service. */
const unitOf = (socket: HostSocket): string =>
  unitFiles.find(({ text }) => text.includes(`ListenStream=${socket.path}\n`))?.name ?? terminalsUnit;

function remedy(socket: HostSocket, runs: boolean): Action {
  const unit = unitOf(socket);
  if (!runs) return { kind: "start", unit };
  return unit === terminalsUnit
    ? { kind: "renew-tmux-socket", path: socket.path }
    : { kind: "restart", unit };
}
