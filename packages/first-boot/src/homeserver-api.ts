/**
 * The six requests of the Client-Server API that first boot makes. The launcher speaks to a homeserver in no other
 * moment of its life, so this stays small and knows nothing of sync or rooms beyond their aliases.
 */
import { systemClock } from "@bureau/kit/clock";
import { BureauError, isBureauError, messageOf } from "@bureau/kit/errors";
import { retryAfterMs, waitOutRateLimit } from "@bureau/kit/rate-limit";
import { refusedBecause } from "@bureau/kit/refused-because";
import { egressTo } from "@bureau/os/egress";
import { parse } from "@bureau/schema/parse";
import {
  array,
  type GenericSchema,
  type InferOutput,
  looseObject,
  nullish,
  optional,
  safeParse,
  string,
} from "valibot";

/** One request may take this long; the whole first boot has its own budget. */
const REQUEST_MS_MAX = 30_000;
/** Rounds of user-interactive authentication; each completes one stage. */
const AUTH_ROUNDS_MAX = 5;

const isLimit = (status: number, errcode: string): boolean =>
  status === 429 || errcode === "M_LIMIT_EXCEEDED";

/** The homeserver's refusal. `errcode` is the Matrix one, for example `M_FORBIDDEN`. */
export class HomeserverError extends BureauError {
  constructor(
    readonly status: number,
    readonly errcode: string,
    message: string,
    readonly body: unknown,
    /** How long a rate limit asks us to stay away. */
    readonly retryAfterMs?: number,
  ) {
    super(
      isLimit(status, errcode) || status >= 500 ? "unavailable" : status === 404 ? "not-found" : "forbidden",
      message,
    );
  }
}

const ErrorSchema = looseObject({ errcode: optional(string()), error: optional(string()) });
const SessionSchema = looseObject({ user_id: string(), access_token: string() });
const ChallengeSchema = looseObject({
  session: optional(string()),
  flows: array(looseObject({ stages: array(string()) })),
  completed: nullish(array(string())),
});
const RoomSchema = looseObject({ room_id: string() });

export type LoginSession = { readonly user_id: string; readonly access_token: string };
/** Answers one authentication stage; undefined when it cannot. */
type StageAnswer = (stage: string) => Record<string, unknown> | undefined;

/** The same device each time: a first boot that is repeated leaves no second session behind. */
const DEVICE = { device_id: "BUREAU_MACHINE", initial_device_display_name: "Bureau machine" };

export class HomeserverApi {
  constructor(
    readonly url: string,
    readonly signal: AbortSignal,
    readonly token?: string,
  ) {}

  as(session: LoginSession): HomeserverApi {
    return new HomeserverApi(this.url, this.signal, session.access_token);
  }

  login(localpart: string, password: string): Promise<LoginSession> {
    const identifier = { type: "m.id.user", user: localpart };
    return this.#request(
      "log in",
      "POST",
      "login",
      { type: "m.login.password", identifier, password, ...DEVICE },
      SessionSchema,
    );
  }

  /** @throws HomeserverError M_USER_IN_USE when the account exists */
  register(localpart: string, password: string, registrationToken: string): Promise<LoginSession> {
    const body = { username: localpart, password, ...DEVICE };
    return this.#withAuth("register", "register", body, SessionSchema, (stage) => {
      if (stage === "m.login.registration_token") return { token: registrationToken };
      return stage === "m.login.dummy" ? {} : undefined;
    });
  }

  /** Ends every other session of the account: a one-time password somebody else also used is worth nothing then. */
  async changePassword(localpart: string, oldPassword: string, newPassword: string): Promise<void> {
    const identifier = { type: "m.id.user", user: localpart };
    const body = { new_password: newPassword, logout_devices: true };
    await this.#withAuth("change the password", "account/password", body, looseObject({}), (stage) =>
      stage === "m.login.password" ? { identifier, password: oldPassword } : undefined,
    );
  }

  /** Room ID of the joined room; joining again is fine. */
  async join(alias: string): Promise<string> {
    const path = `join/${encodeURIComponent(alias)}`;
    return (await this.#request(`join ${alias}`, "POST", path, {}, RoomSchema)).room_id;
  }

  async putState(room: string, type: string, stateKey: string, content: unknown): Promise<void> {
    const path = `rooms/${encodeURIComponent(room)}/state/${encodeURIComponent(type)}/${encodeURIComponent(stateKey)}`;
    await this.#request(`publish ${type}`, "PUT", path, content, looseObject({}));
  }

  /** A request that the server answers with 401 and a list of stages until enough of them are done. */
  async #withAuth<const Schema extends GenericSchema>(
    act: string,
    path: string,
    body: Record<string, unknown>,
    schema: Schema,
    answer: StageAnswer,
  ): Promise<InferOutput<Schema>> {
    let auth: Record<string, unknown> | undefined;
    for (let round = 1; ; round++) {
      try {
        return await this.#request(act, "POST", path, auth === undefined ? body : { ...body, auth }, schema);
      } catch (error) {
        const challenged = error instanceof HomeserverError && error.status === 401;
        const retried = challenged && auth !== undefined && error.errcode !== "";
        if (!challenged || retried || round >= AUTH_ROUNDS_MAX) throw error;
        auth = nextStage(error.body, answer, act);
      }
    }
  }

  /** Rate-limited requests wait within the budget of the whole first boot, which {@link signal} ends. */
  #request<const Schema extends GenericSchema>(
    ...request: [act: string, method: string, path: string, body: unknown, schema: Schema]
  ): Promise<InferOutput<Schema>> {
    return waitOutRateLimit(() => this.#sendOnce(...request), {
      what: request[0],
      maxMs: Number.POSITIVE_INFINITY,
      clock: systemClock,
      signal: this.signal,
      limitOf: (error) =>
        error instanceof HomeserverError && isLimit(error.status, error.errcode)
          ? { retryAfterMs: error.retryAfterMs }
          : undefined,
    });
  }

  async #sendOnce<const Schema extends GenericSchema>(
    act: string,
    method: string,
    path: string,
    body: unknown,
    schema: Schema,
  ): Promise<InferOutput<Schema>> {
    let status: number;
    let answer: unknown;
    let retryAfter: string | null;
    try {
      const { base, options } = egressTo(this.url);
      const response = await fetch(`${base}/_matrix/client/v3/${path}`, {
        ...options,
        method,
        headers: {
          "content-type": "application/json",
          ...(this.token === undefined ? {} : { authorization: `Bearer ${this.token}` }),
        },
        body: JSON.stringify(body),
        signal: AbortSignal.any([this.signal, AbortSignal.timeout(REQUEST_MS_MAX)]),
      });
      status = response.status;
      retryAfter = response.headers.get("retry-after");
      answer = await response.json().catch(() => ({}));
    } catch (error) {
      if (isBureauError(error)) throw error;
      throw new BureauError("unavailable", `Cannot ${act} at ${this.url}: ${messageOf(error)}`, {
        hint: "check the homeserver's address and that this machine reaches it",
      });
    }
    if (status >= 200 && status < 300) return parse(schema, answer, `answer of ${this.url} to ${act}`);
    // What is not JSON comes from something in between, such as a reverse proxy: its status says enough.
    const reason = safeParse(ErrorSchema, answer);
    const { errcode = "", error = "" } = reason.success ? reason.output : {};
    throw new HomeserverError(
      status,
      errcode,
      `Cannot ${act} at ${this.url}: ${refusedBecause(status, errcode, error)}`,
      answer,
      retryAfterMs(retryAfter, answer, systemClock.now()),
    );
  }
}

/** The first stage still to do of a flow whose stages we can all answer. */
function nextStage(body: unknown, answer: StageAnswer, act: string): Record<string, unknown> {
  const { session, flows, completed } = parse(
    ChallengeSchema,
    body,
    `the homeserver's authentication stages`,
  );
  const flow = flows.find(({ stages }) => stages.every((stage) => answer(stage) !== undefined));
  const stage = flow?.stages.find((name) => !(completed ?? []).includes(name));
  if (stage === undefined)
    throw new BureauError("unsupported", `Cannot ${act}: the homeserver wants ${JSON.stringify(flows)}`);
  return { type: stage, ...(session === undefined ? {} : { session }), ...answer(stage) };
}
