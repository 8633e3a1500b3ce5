/**
 * What a server admin may do to accounts: Synapse's admin API, which the embedded homeserver speaks as well. Being
 * refused is an expected answer: the administrator of a namespace need not be the server's.
 */
import { Secret } from "@bureau/kit/secret";
import { parse } from "@bureau/schema/parse";
import type { UserId } from "@bureau/schema/refs";
import * as v from "valibot";
import { MatrixError } from "./matrix-error.ts";
import { type Fetch, type MatrixRequest, matrixRequest, path } from "./request.ts";

/** `refused`: this token may not, or the homeserver has no such API. */
export type AdminAnswer = { readonly kind: "done" } | { readonly kind: "refused"; readonly reason: string };

export type AccountState = "active" | "deactivated" | "missing";

const UserAnswer = v.object({ deactivated: v.optional(v.union([v.boolean(), v.number()])) });

export class ServerAdmin {
  readonly homeserver: string;
  readonly #token: Secret;
  readonly #fetch: Fetch | undefined;

  constructor(options: { readonly homeserver: string; readonly token: string; readonly fetch?: Fetch }) {
    this.homeserver = options.homeserver;
    this.#token = new Secret(options.token);
    this.#fetch = options.fetch;
  }

  /** Closes an account: it leaves its rooms, its sessions end, nobody can log in to it. Again it changes nothing. */
  deactivate(user: UserId): Promise<AdminAnswer> {
    return this.#ask(`close the account ${user}`, "POST", path`/v1/deactivate/${user}`, { erase: false });
  }

  /**
   * Ends every session of an account and gives it this password; one that was closed is open again, where the homeserver
   * can do that: Synapse 1.163 on SQLite fails with 500.
   */
  async resetPassword(user: UserId, password: string): Promise<AdminAnswer> {
    try {
      const body = { password, logout_devices: true, deactivated: false };
      return await this.#ask(`give ${user} a new password`, "PUT", path`/v2/users/${user}`, body);
    } catch (error) {
      const failed = error instanceof MatrixError && error.status === 500;
      if (!failed || (await this.accountState(user)) !== "deactivated") throw error;
      return { kind: "refused", reason: "the homeserver failed to open a closed account again" };
    }
  }

  async accountState(user: UserId): Promise<AccountState | Extract<AdminAnswer, { kind: "refused" }>> {
    try {
      const answer = parse(
        UserAnswer,
        await this.#call(`look up the account ${user}`, "GET", path`/v2/users/${user}`),
        `answer about ${user}`,
      );
      return answer.deactivated ? "deactivated" : "active";
    } catch (error) {
      if (error instanceof MatrixError && error.errcode === "M_NOT_FOUND") return "missing";
      return refusal(error);
    }
  }

  async #ask(act: string, method: MatrixRequest["method"], at: string, body: object): Promise<AdminAnswer> {
    try {
      await this.#call(act, method, at, body);
      return { kind: "done" };
    } catch (error) {
      return refusal(error);
    }
  }

  #call(act: string, method: MatrixRequest["method"], at: string, body?: object): Promise<unknown> {
    return matrixRequest({
      homeserver: this.homeserver,
      act,
      root: "/_synapse/admin",
      method,
      path: at,
      token: this.#token.reveal(),
      fetch: this.#fetch,
      ...(body === undefined ? {} : { body }),
    });
  }
}

/** @throws what is not a refusal */
function refusal(error: unknown): { readonly kind: "refused"; readonly reason: string } {
  if (!(error instanceof MatrixError)) throw error;
  // 404 or 405 without M_NOT_FOUND: a homeserver, or a proxy before it, that has no such address.
  const isAbsent = (error.status === 404 || error.status === 405) && error.errcode !== "M_NOT_FOUND";
  if (error.code === "forbidden" || error.code === "unauthorized")
    return { kind: "refused", reason: "this token is not a server admin's" };
  if (isAbsent) return { kind: "refused", reason: "the homeserver offers no admin API at this address" };
  throw error;
}
