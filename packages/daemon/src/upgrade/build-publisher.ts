/** Publishes in the config room the running build and the state of a request. Sends only the latest content. */
import { delayMs, standardBackoff } from "@bureau/kit/backoff";
import { canonicalJson } from "@bureau/kit/canonical-json";
import type { Runtime } from "@bureau/kit/runtime";
import { isRevoked } from "@bureau/matrix/matrix-error";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, type MachineVersion } from "@bureau/schema/events";
import { type RoomId, stateKeyOf } from "@bureau/schema/refs";
import { Wakeup } from "../wakeup.ts";

export type PublisherDeps = Runtime & {
  readonly session: Pick<MatrixSession, "putState" | "userId">;
  readonly content: () => MachineVersion;
};

export class BuildPublisher {
  readonly #deps: PublisherDeps;
  readonly #wakeup: Wakeup;
  #last: { readonly text: string; readonly eventId: string } | undefined;

  constructor(deps: PublisherDeps) {
    this.#deps = deps;
    this.#wakeup = new Wakeup(deps.clock);
  }

  /** The content may have changed. */
  mark(): void {
    this.#wakeup.mark();
  }

  /** The event with the current content; undefined until it is sent. */
  get current(): string | undefined {
    return this.#last?.text === canonicalJson(this.#deps.content()) ? this.#last.eventId : undefined;
  }

  /** @throws when this session was revoked */
  async run(room: RoomId, signal: AbortSignal): Promise<void> {
    const { session, clock, random, log } = this.#deps;
    signal.addEventListener("abort", () => this.mark(), { once: true });
    this.mark();
    for (let failures = 0; !signal.aborted; ) {
      await this.#wakeup.wait(undefined);
      const content = this.#deps.content();
      const text = canonicalJson(content);
      if (signal.aborted || text === this.#last?.text) continue;
      try {
        const key = stateKeyOf(session.userId);
        const eventId = await session.putState(room, eventTypes.machineVersion, key, content, signal);
        this.#last = { text, eventId };
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        if (isRevoked(error)) throw error;
        log.warn("upgrade.publish-failed", "cannot publish the running build", { error });
        this.mark();
        await clock.sleep(delayMs(standardBackoff, failures++, random), signal);
      }
    }
  }
}
