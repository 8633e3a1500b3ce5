/**
 * observe.sock: what operators and their tools ask this machine (wire facts, section 8.1). A line of JSON is read, its
 * action found, a line is answered. Every connection has a deadline until its request is in, and there is a limit on
 * how many there are.
 */
import { chownSync, statSync } from "node:fs";
import type { Socket } from "node:net";
import { dirname } from "node:path";
import { isBureauError, messageOf } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { inTime } from "@bureau/kit/wait-for";
import { type CborServer, type ListenPlace, startAccepting } from "@bureau/os/cbor-socket";
import { type ObserveRequest, ObserveRequestSchema } from "@bureau/schema/observe-wire";
import { InputError, parseJson } from "@bureau/schema/parse";
import { RefError } from "@bureau/schema/refs";
import { readLine } from "./line-socket.ts";

/** Until the request is in (wire facts, section 8.1). */
const HANDSHAKE_MS_MAX = 10_000;
const CONNECTIONS_MAX = 128;
/** A peer that does not take its answer is cut off. */
const ANSWER_MS_MAX = 10_000;

/** A reply to print as one line; or the connection itself was taken over and is the action's from now on. */
export type ObserveReply = { readonly reply: object } | { readonly taken: true };

export type ObserveConnection = {
  readonly socket: Socket;
  /** Bytes that came behind the request's line. */
  readonly rest: Buffer;
};

export type ObserveAction = (request: ObserveRequest, connection: ObserveConnection) => Promise<ObserveReply>;

/** How it is handed to a program that replaces this one: as a CBOR socket is. */
export type ObserveServer = AsyncDisposable & Pick<CborServer, "handOver" | "resume">;

/** Listens until disposed. An action's name is its key; `""` is `observe`. */
export async function serveObserve(options: {
  readonly listen: ListenPlace;
  readonly actions: Readonly<Record<string, ObserveAction>>;
  readonly log: Log;
}): Promise<ObserveServer> {
  const acceptor = await startAccepting({
    listen: options.listen,
    connectionsMax: CONNECTIONS_MAX,
    log: options.log,
    onConnection: (socket) => serveOne(socket, options),
  });
  // An inherited socket's owner and group are its unit's business.
  if ("path" in options.listen) openToOperators(options.listen.path, options.log);
  return {
    async handOver(timeoutMs) {
      const fd = acceptor.keep();
      const stopped = acceptor.stop();
      if (await inTime(stopped, timeoutMs)) return { fd };
      // Questions change nothing: whoever is cut off asks again.
      await acceptor.cut();
      return { fd };
    },
    resume: () => acceptor.resume(),
    async [Symbol.asyncDispose]() {
      await acceptor.cut();
      acceptor[Symbol.dispose]();
    },
  };
}

/** Who may enter the run folder may use the socket: the operators' group in a system installation, we alone otherwise. */
function openToOperators(path: string, log: Log): void {
  const { gid } = statSync(dirname(path));
  if (statSync(path).gid === gid) return;
  try {
    chownSync(path, -1, gid);
  } catch (error) {
    log.warn(
      "observe.socket-group-failed",
      "cannot give the observe socket to the group of its folder; only we can use it",
      { error },
    );
  }
}

async function serveOne(
  socket: Socket,
  options: { readonly actions: Readonly<Record<string, ObserveAction>>; readonly log: Log },
): Promise<void> {
  let reply: object;
  try {
    const { line, rest } = await readLine(socket, HANDSHAKE_MS_MAX);
    const request = parseJson(ObserveRequestSchema, line, "observe request");
    const name = request.action === undefined || request.action === "" ? "observe" : request.action;
    const action = Object.hasOwn(options.actions, name) ? options.actions[name] : undefined;
    if (action === undefined)
      throw new InputError("observe request", [
        `unknown action "${name}"; this daemon knows ${Object.keys(options.actions).join(", ")}`,
      ]);
    const outcome = await action(request, { socket, rest });
    if ("taken" in outcome) return;
    reply = outcome.reply;
  } catch (error) {
    reply = failure(error, options.log);
  }
  if (socket.destroyed) return;
  socket.setTimeout(ANSWER_MS_MAX, () => socket.destroy());
  socket.resume();
  socket.end(`${JSON.stringify(reply)}\n`);
}

function failure(error: unknown, log: Log): object {
  const expected = isBureauError(error) || error instanceof InputError || error instanceof RefError;
  if (!expected) log.error("observe.action-failed", "observe action failed", { error });
  return {
    ok: false,
    error: messageOf(error),
    code: isBureauError(error) ? error.code : expected ? "invalid-input" : "failed",
    ...(isBureauError(error) && error.hint !== "" ? { hint: error.hint } : {}),
  };
}
