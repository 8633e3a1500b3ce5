/**
 * How many requests are under way to each upstream. The runtime carries {@link RUNTIME_MAX} at once and lets further ones
 * wait without end, so an upstream that hangs must not use up what others need, least of all the homeserver.
 */
import { BureauError, errnoOf } from "@bureau/kit/errors";

/** BUN_CONFIG_MAX_HTTP_REQUESTS when it is not set. */
const RUNTIME_MAX = 256;
const UPSTREAM_MAX = 64;
/** All upstreams except the homeserver together; the rest is reserved for the homeserver. */
const SERVICES_MAX = RUNTIME_MAX - UPSTREAM_MAX;

export const HOMESERVER = "the homeserver";

export class InFlight {
  readonly #counts = new Map<string, number>();

  /** Counts a request until the returned function is called. @throws BureauError `unavailable` when there are too many */
  begin(upstream: string): () => void {
    const count = this.#counts.get(upstream) ?? 0;
    const services = [...this.#counts].reduce((sum, [name, n]) => (name === HOMESERVER ? sum : sum + n), 0);
    if (count >= UPSTREAM_MAX || (upstream !== HOMESERVER && services >= SERVICES_MAX))
      throw new BureauError(
        "unavailable",
        `Cannot reach ${upstream}: ${count} requests to it have no answer yet`,
        { hint: "wait for some of them, or cancel some" },
      );
    this.#counts.set(upstream, count + 1);
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      const left = (this.#counts.get(upstream) ?? 1) - 1;
      if (left > 0) this.#counts.set(upstream, left);
      else this.#counts.delete(upstream);
    };
  }
}

/** The same bytes; calls `over` when they end, break off, or the reader cancels. */
export function whenOver(body: ReadableStream<Uint8Array>, over: () => void): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) return controller.enqueue(value);
        over();
        controller.close();
      } catch (error) {
        over();
        // The runtime prints what a body ends with, and an error of its client has the URL with its query in it.
        controller.error(
          new BureauError("unavailable", `The answer broke off (${errnoOf(error) ?? "no reason"})`),
        );
      }
    },
    cancel(reason) {
      over();
      return reader.cancel(reason);
    },
  });
}
