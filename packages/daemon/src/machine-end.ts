/**
 * What follows when a loop of the daemon fails. Three failures say that this machine no longer belongs to its fleet; for
 * these every sandbox is destroyed, because nothing may run in the name of such a machine:
 *
 * - the homeserver revoked the session, or removed the machine from its config room;
 * - except on trial: a new build does not decide that. It goes back to the build before, which asks again;
 * - except after the machine's own answer to a request to leave: that answer ends the session.
 *
 * Any other failure ends the daemon with that error, and sandboxes keep running.
 */
import { isBureauError } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { isRevoked } from "@bureau/matrix/matrix-error";
import type { Departure } from "./departure.ts";
import type { Reconciler } from "./reconcile/reconciler.ts";
import type { Upgrader } from "./upgrade/upgrader.ts";

/** For destroying everything when the machine was revoked (wire facts, section 12.1). */
const DESTROY_MS_MAX = 10_000;

export type MachineEndDeps = {
  readonly departure: Pick<Departure, "hasAnswered" | "left">;
  readonly upgrader: Pick<Upgrader, "isOnTrial" | "doubt" | "stopped"> | undefined;
  readonly reconciler: Pick<Reconciler, "destroyEverything">;
  readonly log: Log;
};

export class MachineEnd {
  readonly #deps: MachineEndDeps;
  readonly #revoked = Promise.withResolvers<Error>();
  #hasFailed = false;

  constructor(deps: MachineEndDeps) {
    this.#deps = deps;
    void deps.departure.left.then(this.#revoked.resolve);
    // The daemon may fail before its owner waits for that.
    this.#revoked.promise.catch(() => {});
  }

  /** Resolves with the reason when the machine was revoked or has left; rejects when a loop failed otherwise. */
  get revoked(): Promise<Error> {
    return this.#revoked.promise;
  }

  /** Resolves when all that follows from `error` is done. */
  async loopFailed(error: unknown): Promise<void> {
    const { departure, upgrader, reconciler, log } = this.#deps;
    if (departure.hasAnswered) return;
    this.#hasFailed = true;
    if (!endsMachine(error)) return this.#revoked.reject(error);
    if (upgrader?.isOnTrial === true) return await upgrader.doubt(error).catch(this.#revoked.reject);
    log.error("machine.revoked", "this machine was revoked; every sandbox is destroyed", { error });
    const gone = await reconciler.destroyEverything(DESTROY_MS_MAX);
    if (!gone) log.error("machine.revocation-incomplete", "not every sandbox could be destroyed in time");
    this.#revoked.resolve(error);
  }

  /** The daemon was told to stop. */
  stopping(): void {
    if (!this.#hasFailed) this.#deps.upgrader?.stopped();
  }
}

const endsMachine = (error: unknown): error is Error =>
  isRevoked(error) || (isBureauError(error) && error.code === "unauthorized");
