/**
 * How a machine leaves once it was asked to and runs nothing any more: it reports that in its config room, then ends its
 * own session. From then on its token is invalid, and the operator who waits for the answer may remove the machine from
 * its rooms.
 */
import { delayMs, standardBackoff } from "@bureau/kit/backoff";
import { timestamp } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { Runtime } from "@bureau/kit/runtime";
import { isRevoked } from "@bureau/matrix/matrix-error";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes, type MachineDecommissioned } from "@bureau/schema/events";
import { stateKeyOf } from "@bureau/schema/refs";
import type { Decommission } from "./desired/decommission.ts";

export type DepartureDeps = Runtime & {
  readonly session: Pick<MatrixSession, "putState" | "logout" | "userId">;
  /** Whether the request still stands: it may be withdrawn until it is answered. */
  readonly stands: (decommission: Decommission) => boolean;
  /** Sends what only this session can send. Never rejects, and takes a limited time. */
  readonly beforeLeaving: () => Promise<void>;
};

export class Departure {
  readonly #deps: DepartureDeps;
  readonly #left = Promise.withResolvers<Error>();
  #answering = false;
  #hasAnswered = false;

  constructor(deps: DepartureDeps) {
    this.#deps = deps;
  }

  /** The answer was given. The end of the session follows from it and is not an error. */
  get hasAnswered(): boolean {
    return this.#hasAnswered;
  }

  /** Resolves with the reason when the machine has left. */
  get left(): Promise<Error> {
    return this.#left.promise;
  }

  /** No sandbox runs any more. May be called repeatedly: one answer is under way at a time. */
  drained(decommission: Decommission, stopped: number): void {
    if (this.#answering) return;
    this.#answering = true;
    this.#answer(decommission, stopped)
      .then((left) => {
        this.#answering = false;
        if (left)
          this.#left.resolve(
            new BureauError("unauthorized", "This machine was decommissioned, and has left"),
          );
      })
      .catch((error: unknown) =>
        this.#left.resolve(error instanceof Error ? error : new Error(String(error))),
      );
  }

  /** True when it was answered, false when the request was withdrawn before. @throws when the session was revoked */
  async #answer(decommission: Decommission, stopped: number): Promise<boolean> {
    const { session, stands, clock, random, log } = this.#deps;
    for (let attempt = 0; stands(decommission); attempt++) {
      const content: MachineDecommissioned = { request: decommission.request, at: timestamp(clock), stopped };
      try {
        await this.#deps.beforeLeaving();
        await session.putState(
          decommission.room,
          eventTypes.machineDecommissioned,
          stateKeyOf(session.userId),
          content,
        );
        this.#hasAnswered = true;
        log.info("machine.decommissioned", "decommissioned: everything was stopped, this machine leaves", {
          stopped,
        });
        await session
          .logout(true)
          .catch((error: unknown) =>
            log.warn("machine.logout-failed", "cannot end this machine's session", { error }),
          );
        return true;
      } catch (error) {
        if (isRevoked(error)) throw error;
        const waitMs = delayMs(standardBackoff, attempt, random);
        log.warn("machine.decommission-unreported", "cannot report yet that everything was stopped", {
          error,
          waitMs,
        });
        await clock.sleep(waitMs);
      }
    }
    return false;
  }
}
