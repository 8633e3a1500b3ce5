/** The sockets of the run folder exist, with owner, group and mode, and a program accepts on each. */
import { connect } from "node:net";
import { basename } from "node:path";
import { errnoOf } from "@bureau/kit/errors";
import { limitWhileTurning } from "@bureau/kit/wait-for";
import { systemLayout } from "@bureau/os/layout";
import { tmuxServerUnit } from "@bureau/os/unit-names";
import type { Action } from "../resources/registry.ts";
import { look, octal } from "../system/look.ts";
import { type HostSocket, hostSockets } from "../units/host-sockets.ts";
import { unitFiles } from "../units/unit-files.ts";
import {
  byFix,
  type Check,
  everyInstallation,
  type Finding,
  fail,
  hidden,
  pass,
  type Remedy,
  skip,
} from "./check.ts";
import type { HostView } from "./host-view.ts";

export const socketChecks: readonly Check[] = hostSockets.map((socket): Check => {
  const path = socket.pathIn(systemLayout);
  return {
    id: `socket:${basename(path)}`,
    group: "sockets",
    title: path,
    expected: `${socket.owner}:${socket.group} ${socket.modes.map(octal).join(" or ")}, answering`,
    repair: byFix("starts its unit again, which makes the socket"),
    scope: everyInstallation,
    run: (host) =>
      host.kind === "system" ? systemSocket(host, socket) : ownSocket(socket.pathIn(host.layout)),
  };
});

async function systemSocket(host: HostView, socket: HostSocket): Promise<Finding> {
  const path = socket.pathIn(systemLayout);
  const seen = look(path);
  const units = await host.units();
  const unit = units.get(unitOf(path));
  const runs = unit?.active === "active";
  const isServed = units.get(unitOf(path).replace(/\.socket$/, ".service"))?.active === "active";
  const again = { actions: [actionFor(path, runs || isServed)] };
  if (seen.kind === "hidden") return hidden("you may not look: only operators and root may");
  if (seen.kind === "absent")
    return host.hasJoined() || host.hasBootstrap
      ? fail("missing", again)
      : skip("waits until this machine has joined its fleet");
  if (seen.kind !== "socket") return fail(`a ${seen.kind} is there instead`, again);
  const accounts = host.accounts();
  const found = `${accounts.userName(seen.uid)}:${accounts.groupName(seen.gid)} ${octal(seen.mode)}`;
  const isRight = socket.modes.some((mode) => found === `${socket.owner}:${socket.group} ${octal(mode)}`);
  if (!isRight) return fail(found, again);
  // systemd listens, and starts the service for the first client: a check must not do that.
  if (runs && unit.sub === "listening") return pass(`${found}; the first client starts its service`);
  return answer(path, found, again);
}

async function ownSocket(path: string): Promise<Finding> {
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

async function answer(path: string, found: string, remedy: Remedy): Promise<Finding> {
  const refusal = await refusalOf(path);
  if (refusal === undefined) return pass(found);
  if (refusal === "EACCES") return pass(`${found}; you may not open it`);
  return fail(`${found}, but no program answers (${refusal})`, remedy);
}

/** Undefined when a program accepts at `path`, else why not. */
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

/** The unit that makes the socket: the socket unit that names it, else the tmux server's. */
const unitOf = (path: string): string =>
  unitFiles.find(({ text }) => text.includes(`ListenStream=${path}\n`))?.name ?? tmuxServerUnit;

function actionFor(path: string, runs: boolean): Action {
  const unit = unitOf(path);
  if (!runs) return { kind: "start", unit };
  return unit === tmuxServerUnit ? { kind: "renew-tmux-socket", path } : { kind: "restart", unit };
}
