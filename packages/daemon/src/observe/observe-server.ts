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
import { type Caller, type ListenPlace, startAccepting } from "@bureau/os/acceptor";
import type { CborServer } from "@bureau/os/cbor-server";
import type { Streams } from "@bureau/os/streams";
import { type ObserveRequest, ObserveRequestSchema } from "@bureau/schema/observe-wire";
import { InputError, parseJson } from "@bureau/schema/parse";
import { RefError } from "@bureau/schema/refs";
import { readLine } from "./line-socket.ts";

/** Until the request is in (wire facts, section 8.1). */
const HANDSHAKE_MS_MAX = 10_000;
const CONNECTIONS_MAX = 128;
/** A peer that does not take its answer is cut off. */
const ANSWER_MS_MAX = 10_000;

/** A reply, sent as one line; or the connection becomes a stream of one of the daemon's protocols, beginning in `state`. */
export type ObserveReply =
  | { readonly reply: object }
  | { readonly stream: { readonly protocol: string; readonly state: unknown } };

export type ObserveAction = (request: ObserveRequest, caller: Caller) => Promise<ObserveReply>;

/** How it is handed to a program that replaces this one: as a CBOR socket is. */
export type ObserveServer = AsyncDisposable & Pick<CborServer, "handOver" | "resume">;

export type ObserveOptions = {
  readonly listen: ListenPlace;
  /** An action's name is its key; `""` is `observe`. */
  readonly actions: Readonly<Record<string, ObserveAction>>;
  readonly streams: Pick<Streams, "take">;
  readonly log: Log;
};

/** Listens until disposed. */
export async function serveObserve(options: ObserveOptions): Promise<ObserveServer> {
  const acceptor = await startAccepting({
    listen: options.listen,
    connectionsMax: CONNECTIONS_MAX,
    log: options.log,
    onConnection: (socket, caller) => serveOne(socket, caller, options),
  });
  // An inherited socket's owner and group are its unit's business.
  if ("path" in options.listen) openToOperators(options.listen.path, options.log);
  return {
    async handOver(timeoutMs) {
      const fd = acceptor.keep();
      const stopped = acceptor.stop();
      if (await inTime(stopped, timeoutMs)) return { fd };
      // A request changes nothing: a client that is cut off can ask again.
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
  caller: Caller,
  options: Pick<ObserveOptions, "actions" | "streams" | "log">,
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
    const outcome = await action(request, caller);
    if ("stream" in outcome) {
      options.streams.take(socket, rest, outcome.stream.protocol, outcome.stream.state);
      return;
    }
    reply = outcome.reply;
  } catch (error) {
    reply = failure(error, caller, options.log);
  }
  if (socket.destroyed) return;
  socket.setTimeout(ANSWER_MS_MAX, () => socket.destroy());
  socket.resume();
  socket.end(`${JSON.stringify(reply)}\n`);
}

function failure(error: unknown, caller: Caller, log: Log): object {
  const expected = isBureauError(error) || error instanceof InputError || error instanceof RefError;
  if (!expected) log.error("observe.action-failed", "observe action failed", { error, uid: caller.uid });
  return {
    ok: false,
    error: messageOf(error),
    code: isBureauError(error) ? error.code : expected ? "invalid-input" : "failed",
    ...(isBureauError(error) && error.hint !== "" ? { hint: error.hint } : {}),
  };
}
