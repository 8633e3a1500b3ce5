/** The launcher as the daemon sees it: typed requests, each with a deadline. An interface, so that a simulator can be one. */
import { callCbor } from "@bureau/os/cbor-client";
import {
  type LauncherAction,
  type LauncherRequest,
  type LauncherResponse,
  launcherResponses,
} from "@bureau/schema/launcher-ipc";

export type Launcher = {
  /** @throws BureauError `unavailable` when the launcher is away, else with its code */
  call<Name extends LauncherAction>(
    action: Name,
    request: LauncherRequest<Name>,
    options?: { readonly signal?: AbortSignal },
  ): Promise<LauncherResponse<Name>>;
};

/** For anything that does not say how long it may take (wire facts, section 12.1). */
const CALL_MS_MAX = 30_000;
/** Starting a sandbox unseals keys, starts a proxy and waits until it listens. */
const CREATE_MS_MAX = 60_000;

export function openLauncherClient(socket: string): Launcher {
  return {
    async call(action, request, options = {}) {
      const answer = await callCbor(socket, { ...request, action }, launcherResponses[action], {
        peer: "launcher",
        hint: "is bureau-launcher running?",
        timeoutMs: deadlineOf(action, request),
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      });
      // The schema was picked by the same name as the type.
      return answer as LauncherResponse<typeof action>;
    },
  };
}

function deadlineOf(action: LauncherAction, request: object): number {
  if (action === "create-sandbox") return CREATE_MS_MAX;
  if (action === "wait" && "timeout_ms" in request) return CALL_MS_MAX + Number(request.timeout_ms);
  if (action === "destroy-sandbox" && "grace_ms" in request)
    return CALL_MS_MAX + Number(request.grace_ms ?? 0);
  return CALL_MS_MAX;
}
