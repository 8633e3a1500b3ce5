/**
 * Counts the open requests to each upstream. The runtime sends {@link RUNTIME_MAX} at once and queues further ones without
 * a timeout, so an upstream that hangs must not take the places of others, least of all of the homeserver.
 */
import { BureauError, errnoOf } from "@bureau/kit/errors";

/** The runtime's default of BUN_CONFIG_MAX_HTTP_REQUESTS. */
const RUNTIME_MAX = 256;
const UPSTREAM_MAX = 64;
/** All upstreams except the homeserver together; the rest is reserved for the homeserver. */
const OTHERS_MAX = RUNTIME_MAX - UPSTREAM_MAX;

export const HOMESERVER = "the homeserver";

export class InFlight {
  readonly #counts = new Map<string, number>();

  /** Counts a request until the returned function is called. @throws BureauError `unavailable` when too many are open */
  begin(upstream: string): () => void {
    const count = this.#counts.get(upstream) ?? 0;
    const others = [...this.#counts].reduce((sum, [name, n]) => (name === HOMESERVER ? sum : sum + n), 0);
    if (count >= UPSTREAM_MAX || (upstream !== HOMESERVER && others >= OTHERS_MAX))
      throw new BureauError(
        "unavailable",
        `Cannot send to ${upstream}: ${count} requests to it have no answer yet`,
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

export type BodyPart =
  | { readonly done: false; readonly value: Uint8Array<ArrayBuffer> }
  | { readonly done: true };
export type BodyReader = {
  read(): Promise<BodyPart>;
  cancel(reason: unknown): Promise<void>;
};

/** The bytes of `first` and of all later reads. Calls `over` when the stream ends or fails, or the reader cancels. */
export function whenOver(
  reader: BodyReader,
  first: Promise<BodyPart>,
  over: () => void,
): ReadableStream<Uint8Array> {
  let next: Promise<BodyPart> | undefined = first;
  return new ReadableStream({
    async pull(controller) {
      try {
        const part = await (next ?? reader.read());
        next = undefined;
        if (!part.done) return controller.enqueue(part.value);
        over();
        controller.close();
      } catch (error) {
        over();
        // The runtime prints the error of a body, and an error of its HTTP client contains the URL with its query.
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
