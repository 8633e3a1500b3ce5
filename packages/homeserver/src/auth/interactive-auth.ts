/**
 * User-interactive authentication: a 401 tells the client the stages; the client completes them and repeats
 * its request with `auth`. Sessions are kept in memory. After a restart the client starts again.
 */
import type { Clock } from "@bureau/kit/clock";
import { MatrixError } from "../http/matrix-error.ts";
import { isJsonObject, type JsonObject, stringField } from "../rooms/room-event.ts";
import { randomLetters } from "./random-id.ts";

/** What checks one stage. Throws MatrixError to refuse it. */
export type Stage = {
  readonly type: string;
  readonly check: (auth: JsonObject) => void | Promise<void>;
};

/** `purpose` is a SHA-256, because the operation it stands for may be as long as a request. */
type AuthSession = { readonly purpose: string; readonly expires: number };

const SESSIONS_MAX = 1_000;
const SESSION_LIFETIME_MS = 15 * 60_000;

export class InteractiveAuth {
  readonly #clock: Clock;
  readonly #sessions = new Map<string, AuthSession>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Returns when `stage`, the one stage of the only flow, is passed by `body.auth`; throws the 401 that tells the
   * client what is missing otherwise. `operation` binds a session to one operation of one user.
   */
  async require(body: JsonObject, operation: string, stage: Stage): Promise<void> {
    const purpose = new Bun.CryptoHasher("sha256").update(operation).digest("hex");
    const auth = body["auth"];
    if (!isJsonObject(auth)) throw this.#challenge(purpose, stage, undefined);
    const id = stringField(auth, "session");
    if (id !== undefined) this.#check(id, purpose);
    const type = stringField(auth, "type");
    if (type === undefined) throw this.#challenge(purpose, stage, id);
    if (type !== stage.type) {
      throw this.#challenge(purpose, stage, id, {
        errcode: "M_UNRECOGNIZED",
        error: `Unknown stage ${type.slice(0, 80)}`,
      });
    }
    try {
      await stage.check(auth);
    } catch (error) {
      if (!(error instanceof MatrixError)) throw error;
      throw this.#challenge(purpose, stage, id, error.body());
    }
    // A session is used up once passed, so that it serves one registration only.
    if (id !== undefined) this.#sessions.delete(id);
  }

  #check(id: string, purpose: string): void {
    const session = this.#sessions.get(id);
    if (session === undefined || session.purpose !== purpose || session.expires < this.#clock.now()) {
      throw new MatrixError(
        400,
        "M_UNKNOWN",
        `There is no authentication session ${id.slice(0, 40)} for this request`,
      );
    }
  }

  #challenge(purpose: string, stage: Stage, id: string | undefined, why: JsonObject = {}): MatrixError {
    const session = id ?? this.#open(purpose);
    const { errcode = "M_FORBIDDEN", error = "Authentication is needed", ...rest } = why;
    const extra = { session, flows: [{ stages: [stage.type] }], params: {}, completed: [], ...rest };
    return new ChallengeError(String(errcode), String(error), extra, why["errcode"] !== undefined);
  }

  #open(purpose: string): string {
    const now = this.#clock.now();
    for (const [id, session] of this.#sessions) if (session.expires < now) this.#sessions.delete(id);
    if (this.#sessions.size >= SESSIONS_MAX) {
      const oldest = this.#sessions.keys().next().value;
      if (oldest !== undefined) this.#sessions.delete(oldest);
    }
    const id = randomLetters(24);
    this.#sessions.set(id, { purpose, expires: now + SESSION_LIFETIME_MS });
    return id;
  }
}

/** The 401 with the stages. It has an errcode only when a stage was tried and failed. */
class ChallengeError extends MatrixError {
  readonly #isFailure: boolean;
  constructor(errcode: string, message: string, extra: JsonObject, isFailure: boolean) {
    super(401, errcode, message, extra);
    this.#isFailure = isFailure;
  }
  override body(): JsonObject {
    return this.#isFailure ? super.body() : { ...this.extra };
  }
}
