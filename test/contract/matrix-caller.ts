/** Plain HTTP to a homeserver for contract tests, without a client library, so that tests see the raw JSON. */

export type Answer = {
  readonly status: number;
  /** The parsed JSON, untyped. */
  readonly body: Record<string, unknown>;
};

export type Server = {
  readonly url: string;
  readonly serverName: string;
  readonly registrationToken: string;
  /** Access token of a server admin; tests that need one name it. */
  readonly adminToken?: string;
  stop(): Promise<void>;
};

export type User = {
  readonly userId: string;
  readonly token: string;
  readonly deviceId: string;
  readonly password: string;
};

let serial = 0;
/** A localpart no other test uses. */
export const freshName = (prefix: string): string =>
  `${prefix}-${(serial++).toString(36)}${Math.random().toString(36).slice(2, 8)}`;

export class Caller {
  readonly #url: string;
  readonly #token: string | undefined;

  constructor(url: string, token?: string) {
    this.#url = url;
    this.#token = token;
  }

  /** Calls `path` under `/_matrix/client/v3`, or from the root when it starts with `/_`. */
  async call(method: string, path: string, body?: unknown): Promise<Answer> {
    const response = await this.raw(method, path, body === undefined ? undefined : JSON.stringify(body));
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  }

  /** As {@link call} with a body that is sent as it is. */
  raw(method: string, path: string, body?: string): Promise<Response> {
    const full = path.startsWith("/_") ? `${this.#url}${path}` : `${this.#url}/_matrix/client/v3${path}`;
    return fetch(full, {
      method,
      headers: this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` },
      ...(body === undefined ? {} : { body }),
    });
  }

  get(path: string): Promise<Answer> {
    return this.call("GET", path);
  }
  put(path: string, body: unknown = {}): Promise<Answer> {
    return this.call("PUT", path, body);
  }
  post(path: string, body: unknown = {}): Promise<Answer> {
    return this.call("POST", path, body);
  }
  delete(path: string, body?: unknown): Promise<Answer> {
    return this.call("DELETE", path, body);
  }

  /** Calls and requires 200. */
  async ok(method: string, path: string, body?: unknown): Promise<Record<string, unknown>> {
    const answer = await this.call(method, path, body);
    if (answer.status !== 200) {
      throw new Error(`${method} ${path} answered ${answer.status}: ${JSON.stringify(answer.body)}`);
    }
    return answer.body;
  }
}

/** Registers through interactive authentication, with all stages that the server requires. */
export async function registerUser(server: Server, name = freshName("user")): Promise<User> {
  const caller = new Caller(server.url);
  const password = `pw ${name}`;
  const request = { username: name, password };
  let auth: Record<string, unknown> | undefined;
  for (let step = 0; step < 4; step++) {
    const answer = await unlimited(() =>
      caller.post("/register", auth === undefined ? request : { ...request, auth }),
    );
    if (answer.status === 200) {
      const { user_id: userId, access_token: token, device_id: deviceId } = answer.body;
      return { userId: String(userId), token: String(token), deviceId: String(deviceId), password };
    }
    if (answer.status !== 401)
      throw new Error(`register ${name}: ${answer.status} ${JSON.stringify(answer.body)}`);
    const completed = (answer.body["completed"] ?? []) as string[];
    const flow = (answer.body["flows"] as { stages: string[] }[])[0];
    const next = flow?.stages.find((stage) => !completed.includes(stage));
    auth = { type: next, session: answer.body["session"], token: server.registrationToken };
  }
  throw new Error(`register ${name}: the dance does not end`);
}

/** Accounts of many tests in a row come faster than the server admits: repeats the request after the time it names. */
async function unlimited(ask: () => Promise<Answer>): Promise<Answer> {
  for (;;) {
    const answer = await ask();
    if (answer.status !== 429) return answer;
    await Bun.sleep(Number(answer.body["retry_after_ms"]));
  }
}

/** A user with a caller. */
export type Person = User & { readonly api: Caller };

export async function person(server: Server, prefix = "user"): Promise<Person> {
  const user = await registerUser(server, freshName(prefix));
  return { ...user, api: new Caller(server.url, user.token) };
}

/** Creates a room (version 11 by default) and returns its ID. */
export async function makeRoom(by: Person, request: Record<string, unknown> = {}): Promise<string> {
  const body = await by.api.ok("POST", "/createRoom", { room_version: "11", ...request });
  return String(body["room_id"]);
}

export const encode = encodeURIComponent;

/** Reads untyped JSON: `at(body, "rooms", "join", roomId)`; undefined when a step is missing. */
export function at(value: unknown, ...keys: (string | number)[]): unknown {
  let current = value;
  for (const key of keys) {
    if (typeof current !== "object" || current === null) return undefined;
    current = (current as Record<string | number, unknown>)[key];
  }
  return current;
}

export type EventJson = {
  type: string;
  event_id: string;
  sender: string;
  state_key?: string;
  content: Record<string, unknown>;
  unsigned?: Record<string, unknown>;
};

/** A list of events somewhere in JSON; empty when there is none. */
export const eventsAt = (value: unknown, ...keys: (string | number)[]): EventJson[] =>
  (at(value, ...keys) ?? []) as EventJson[];
