/**
 * What a server admin may do to accounts, by the homeserver's admin API: Synapse's, which the embedded homeserver and
 * others have as well, or Dendrite's, which does less. A refusal is an expected answer: the administrator of a namespace
 * is not always an admin of the server, and a server may not have the act.
 */
import { Secret } from "@bureau/kit/secret";
import { parse } from "@bureau/schema/parse";
import { parseUserId, type UserId } from "@bureau/schema/refs";
import * as v from "valibot";
import { MatrixError } from "./matrix-error.ts";
import { type MatrixRequest, matrixRequest, path, type Server } from "./request.ts";

/** `refused`: the token's account is not a server admin, or the homeserver has no such act. */
export type AdminAnswer = { readonly kind: "done" } | AdminRefusal;
export type AdminRefusal = {
  readonly kind: "refused";
  readonly reason: string;
  /** The homeserver has no such API, for any token. */
  readonly isAbsent: boolean;
};

export type AccountState = "active" | "deactivated" | "missing";
export type Account = { readonly userId: UserId; readonly isAdmin: boolean; readonly isClosed: boolean };

/** How often an account may act: requests a second on average, and at once. */
export type RateLimit = { readonly perSecond: number; readonly burst: number };
/** How Synapse writes "no limit". */
export const NO_RATE_LIMIT: RateLimit = { perSecond: 0, burst: 0 };

const flag = v.optional(v.union([v.boolean(), v.number()]), false);
const UserAnswer = v.object({ deactivated: flag });
const UsersAnswer = v.object({
  users: v.array(v.object({ name: v.string(), admin: flag, deactivated: flag })),
  next_token: v.optional(v.union([v.string(), v.number()])),
});

const DevicesAnswer = v.object({ devices: v.array(v.object({ device_id: v.string() })) });

const SYNAPSE = "/_synapse/admin";
const DENDRITE = "/_dendrite/admin";
const USERS_PER_PAGE = 100;

export class ServerAdmin {
  /** For sessions at the same homeserver. */
  readonly server: Server;
  readonly #token: Secret;

  constructor(options: Server & { readonly token: string }) {
    this.server = { homeserver: options.homeserver, fetch: options.fetch };
    this.#token = new Secret(options.token);
  }

  /**
   * Closes an account: ends its sessions and refuses logins. Idempotent. Dendrite cannot close an account: there this sets a
   * random password that is not kept, and removes the account from its rooms.
   */
  async deactivate(user: UserId): Promise<AdminAnswer> {
    const act = `close the account ${user}`;
    const answer = await this.#ask(act, "POST", SYNAPSE, path`/v1/deactivate/${user}`, { erase: false });
    if (!isAbsent(answer)) return answer;
    const locked = await this.#resetByDendrite(user, randomPassword());
    if (locked.kind === "done")
      await this.#ask(`remove ${user} from its rooms`, "POST", DENDRITE, path`/evacuateUser/${user}`);
    return locked;
  }

  /**
   * Ends every session of an account and gives it this password; one that was closed is open again, where the homeserver
   * can do that: Synapse 1.163 on SQLite fails with 500.
   */
  async resetPassword(user: UserId, password: string): Promise<AdminAnswer> {
    try {
      const body = { password, logout_devices: true, deactivated: false };
      const act = `give ${user} a new password`;
      const answer = await this.#ask(act, "PUT", SYNAPSE, path`/v2/users/${user}`, body);
      return isAbsent(answer) ? await this.#resetByDendrite(user, password) : answer;
    } catch (error) {
      const failed = error instanceof MatrixError && error.status === 500;
      if (!failed || (await this.accountState(user)) !== "deactivated") throw error;
      const reason = "the homeserver failed to open a closed account again";
      return { kind: "refused", isAbsent: false, reason };
    }
  }

  /**
   * Ends every session of an account; its password stays. Dendrite does so only when a password is set: pass as `password`
   * the password of the account's creator.
   */
  async endSessions(user: UserId, password: string): Promise<AdminAnswer> {
    const act = `end the sessions of ${user}`;
    try {
      const answer = await this.#call(act, "GET", SYNAPSE, path`/v2/users/${user}/devices`);
      const { devices } = parse(DevicesAnswer, answer, `devices of ${user}`);
      const body = { devices: devices.map(({ device_id }) => device_id) };
      return await this.#ask(act, "POST", SYNAPSE, path`/v2/users/${user}/delete_devices`, body);
    } catch (error) {
      const answer = refusal(error);
      return answer.isAbsent ? await this.#resetByDendrite(user, password) : answer;
    }
  }

  #resetByDendrite(user: UserId, password: string): Promise<AdminAnswer> {
    const body = { password, logout_devices: true };
    return this.#ask(`give ${user} a new password`, "POST", DENDRITE, path`/resetPassword/${user}`, body);
  }

  async accountState(user: UserId): Promise<AccountState | AdminRefusal> {
    const what = `look up the account ${user}`;
    try {
      const answer = await this.#call(what, "GET", SYNAPSE, path`/v2/users/${user}`);
      return parse(UserAnswer, answer, `answer about ${user}`).deactivated ? "deactivated" : "active";
    } catch (error) {
      if (error instanceof MatrixError && error.errcode === "M_NOT_FOUND") return "missing";
      return refusal(error);
    }
  }

  /** How often the account may write, join, invite and make rooms, instead of the homeserver's default for all accounts. */
  setRateLimit(user: UserId, { perSecond, burst }: RateLimit): Promise<AdminAnswer> {
    const body = { messages_per_second: perSecond, burst_count: burst };
    return this.#ask(
      `set the rate limit of ${user}`,
      "POST",
      SYNAPSE,
      path`/v1/users/${user}/override_ratelimit`,
      body,
    );
  }

  /** Creates a missing account; an existing account would get this password. */
  createAccount(user: UserId, password: string): Promise<AdminAnswer> {
    return this.#ask(`make the account ${user}`, "PUT", SYNAPSE, path`/v2/users/${user}`, { password });
  }

  /** Makes an account a server admin. */
  makeAdmin(user: UserId): Promise<AdminAnswer> {
    const act = `make ${user} a server admin`;
    return this.#ask(act, "PUT", SYNAPSE, path`/v1/users/${user}/admin`, { admin: true });
  }

  /** Every account of the homeserver. */
  async accounts(): Promise<readonly Account[] | AdminRefusal> {
    const found: Account[] = [];
    try {
      for (let from: string | undefined; ; ) {
        const answer = await this.#call("list the accounts", "GET", SYNAPSE, "/v2/users", {
          query: { limit: USERS_PER_PAGE, deactivated: "true", from },
        });
        const { users, next_token } = parse(UsersAnswer, answer, "list of accounts");
        for (const { name, admin, deactivated } of users)
          found.push({
            userId: parseUserId(name),
            isAdmin: Boolean(admin),
            isClosed: Boolean(deactivated),
          });
        if (next_token === undefined) return found;
        from = String(next_token);
      }
    } catch (error) {
      return refusal(error);
    }
  }

  async #ask(
    act: string,
    method: MatrixRequest["method"],
    root: string,
    at: string,
    body: object = {},
  ): Promise<AdminAnswer> {
    try {
      await this.#call(act, method, root, at, { body });
      return { kind: "done" };
    } catch (error) {
      return refusal(error);
    }
  }

  #call(
    act: string,
    method: MatrixRequest["method"],
    root: string,
    at: string,
    rest: Pick<MatrixRequest, "body" | "query"> = {},
  ): Promise<unknown> {
    return matrixRequest({
      act,
      method,
      root,
      path: at,
      ...rest,
      ...this.server,
      token: this.#token.reveal(),
    });
  }
}

/** 256 bits, in hex. */
const randomPassword = (): string =>
  [...crypto.getRandomValues(new Uint8Array(32))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

const isAbsent = (answer: AdminAnswer): boolean => answer.kind === "refused" && answer.isAbsent;

/** @throws what is not a refusal */
function refusal(error: unknown): AdminRefusal {
  if (!(error instanceof MatrixError)) throw error;
  // 404 or 405 without M_NOT_FOUND: a homeserver, or a proxy before it, that has no such address.
  const isAbsent = (error.status === 404 || error.status === 405) && error.errcode !== "M_NOT_FOUND";
  if (isAbsent) return { kind: "refused", isAbsent, reason: "the homeserver has no admin API for it" };
  if (error.code === "forbidden" || error.code === "unauthorized")
    return { kind: "refused", isAbsent, reason: "this token is not a server admin's" };
  throw error;
}
