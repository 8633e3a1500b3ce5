/**
 * Keeps what running sandboxes see of the services they require: a socket that leads to the service as it runs now, and a
 * token that is valid and grants what the policies grant now. Nothing here restarts a sandbox.
 *
 * It acts after each pass of the reconciler, and when a token has reached 80 % of its life. A pass without consumers of
 * services costs nothing; with them, a look at the socket of each service.
 */
import type { Stats } from "node:fs";
import { isBureauError } from "@bureau/kit/errors";
import type { Runtime } from "@bureau/kit/runtime";
import type { SandboxServices, SandboxStatus } from "@bureau/schema/launcher-ipc";
import type { PrincipalName, UserId } from "@bureau/schema/refs";
import { type RevokedToken, TOKEN_REFRESH_SECONDS, TOKEN_SECONDS } from "@bureau/schema/service-token";
import type { Desired, WantedSandbox } from "../desired/desired.ts";
import type { RequiredService } from "../desired/resolve-services.ts";
import type { Launcher } from "../launcher/launcher-client.ts";
import type { MintedToken, TokenMint } from "./token-mint.ts";

/** A message holds some 40 bytes for each. */
const REVOKED_AT_ONCE = 1_000;
/** After a launcher or a service did not take what it was sent. */
const RETRY_MS = 2_000;

export type ServiceAccessDeps = Pick<Runtime, "clock" | "log"> & {
  readonly mint: TokenMint;
  readonly launcher: Launcher;
  /** The socket of a service of this machine, as a file; undefined when there is none. */
  readonly statSocket: (provider: PrincipalName) => Pick<Stats, "ino" | "mtimeMs"> | undefined;
  /** The tokens in a sandbox that an earlier daemon minted, by role. */
  readonly tokensLeftIn: (account: PrincipalName) => ReadonlyMap<string, RevokedToken>;
  /** Delivers a signed revocation to a service of this machine. */
  readonly revoke: (provider: PrincipalName, revocation: Uint8Array) => Promise<void>;
};

type Consumer = {
  readonly account: PrincipalName;
  readonly user: UserId;
  readonly services: readonly RequiredService[];
};

/** What a running sandbox was given. */
type Given = {
  /** Of the sandbox: another one under the same name was given nothing yet. Undefined while it is being created. */
  startedAt: number | undefined;
  /** Which file each socket leads to. */
  readonly sockets: string;
  readonly tokens: ReadonlyMap<string, MintedToken>;
  /** Every token that may still be valid, by provider. */
  readonly live: Map<PrincipalName, RevokedToken[]>;
};

export class ServiceAccess {
  readonly #deps: ServiceAccessDeps;
  readonly #given = new Map<PrincipalName, Given>();
  /** Revocations of tokens that have not expired, by the service that must know them. */
  readonly #revoked = new Map<PrincipalName, RevokedToken[]>();
  /** The file of the service's socket, and how many revocations it has received. */
  readonly #delivered = new Map<PrincipalName, string>();
  #consumersOf:
    | { readonly desired: Desired["principals"]; readonly consumers: readonly Consumer[] }
    | undefined;

  constructor(deps: ServiceAccessDeps) {
    this.#deps = deps;
  }

  /** For `create-sandbox`; undefined for a sandbox that requires no service. */
  servicesFor(
    account: PrincipalName,
    user: UserId,
    { services }: WantedSandbox,
  ): SandboxServices | undefined {
    if (services === undefined) return undefined;
    const consumer = { account, user, services: services.services };
    this.#end(account);
    return this.#give(consumer, undefined, new Map());
  }

  /** Brings every running sandbox up to date. Returns when to look again, in milliseconds from now. */
  async refresh(desired: Desired | undefined, sandboxes: readonly SandboxStatus[]): Promise<number> {
    const consumers = this.#consumers(desired);
    if (consumers.length === 0 && this.#given.size === 0 && this.#revoked.size === 0)
      return TOKEN_SECONDS * 1_000;
    const running = new Map(
      sandboxes.filter(({ state }) => state === "running").map((sandbox) => [sandbox.principal, sandbox]),
    );
    const wanted = new Set(consumers.map(({ account }) => account));
    for (const [account, { startedAt }] of this.#given) {
      const isGone = startedAt !== undefined && running.get(account)?.started_at !== startedAt;
      // It was not created, and is not wanted any more.
      const isLeft = startedAt === undefined && !wanted.has(account) && !running.has(account);
      if (isGone || isLeft) this.#end(account);
    }
    let waitMs = TOKEN_SECONDS * 1_000;
    for (const consumer of consumers) {
      const sandbox = running.get(consumer.account);
      if (sandbox !== undefined)
        waitMs = Math.min(waitMs, await this.#refreshOne(consumer, sandbox.started_at));
    }
    return Math.min(waitMs, await this.#deliver());
  }

  /** What `bureau debug state` shows: never a token. */
  get view() {
    return {
      given: Object.fromEntries(
        [...this.#given].map(([account, { tokens }]) => [
          account,
          Object.fromEntries(
            [...tokens].map(([role, { expiresAt, grants }]) => [role, { expiresAt, grants }]),
          ),
        ]),
      ),
      revoked: Object.fromEntries([...this.#revoked].map(([service, entries]) => [service, entries.length])),
    };
  }

  #consumers(desired: Desired | undefined): readonly Consumer[] {
    if (desired === undefined) return this.#consumersOf?.consumers ?? [];
    if (this.#consumersOf?.desired !== desired.principals) {
      const consumers = [...desired.principals.values()].flatMap(({ account, userId: user, outcome }) =>
        outcome.kind === "run" && outcome.sandbox.services !== undefined
          ? [{ account, user, services: outcome.sandbox.services.services }]
          : [],
      );
      this.#consumersOf = { desired: desired.principals, consumers };
    }
    return this.#consumersOf.consumers;
  }

  async #refreshOne(consumer: Consumer, startedAt: number): Promise<number> {
    const { account } = consumer;
    const given = this.#given.get(account);
    if (given !== undefined) given.startedAt ??= startedAt;
    if (given !== undefined && this.#isCurrent(consumer, given)) return this.#dueInMs(given);
    const live = given?.live ?? this.#leftIn(consumer);
    const services = this.#give(consumer, startedAt, live);
    // A token that grants what is no longer granted must not work until it expires.
    if (given !== undefined) this.#revokeOutdated(consumer, given);
    try {
      await this.#deps.launcher.call("update-services", { principal: account, services });
    } catch (error) {
      const current = this.#given.get(account);
      // The sandbox has not got them: they are minted again.
      if (current !== undefined) this.#given.set(account, { ...current, sockets: "", tokens: new Map() });
      this.#deps.log.warn("services.not-given", "cannot give a sandbox its services; trying again", {
        principal: account,
        error,
      });
      return RETRY_MS;
    }
    return this.#dueInMs(this.#given.get(account));
  }

  #isCurrent({ user, services }: Consumer, { sockets, tokens }: Given): boolean {
    if (sockets !== this.#socketsOf(services)) return false;
    const now = this.#deps.clock.now();
    return services.every(({ role }) => {
      const token = tokens.get(role);
      return (
        token !== undefined &&
        now < refreshAt(token) &&
        token.grants === this.#deps.mint.grantsNow(user, role)
      );
    });
  }

  #dueInMs(given: Given | undefined): number {
    const due = [...(given?.tokens.values() ?? [])].map(refreshAt);
    return Math.max(
      0,
      Math.min(...due, this.#deps.clock.now() + TOKEN_SECONDS * 1_000) - this.#deps.clock.now(),
    );
  }

  /** Mints tokens for all of its roles, and notes them. */
  #give(
    { account, user, services }: Consumer,
    startedAt: number | undefined,
    live: Map<PrincipalName, RevokedToken[]>,
  ): SandboxServices {
    const now = this.#deps.clock.now() / 1_000;
    for (const [provider, entries] of live)
      live.set(
        provider,
        entries.filter(({ expiresAt }) => expiresAt > now),
      );
    const tokens = new Map<string, MintedToken>();
    for (const { role, provider, hearsRevocations } of services) {
      if (tokens.has(role)) continue;
      const token = this.#deps.mint.mint(user, role);
      tokens.set(role, token);
      if (hearsRevocations) live.set(provider, [...(live.get(provider) ?? []), token]);
    }
    this.#given.set(account, { startedAt, sockets: this.#socketsOf(services), tokens, live });
    return {
      sockets: Object.fromEntries(services.map(({ socketName, provider }) => [socketName, provider])),
      tokens: Object.fromEntries([...tokens].map(([role, { bytes }]) => [role, bytes])),
    };
  }

  #socketsOf(services: readonly RequiredService[]): string {
    const { statSocket } = this.#deps;
    return services
      .map(({ socketName, provider }) => `${socketName} ${provider} ${fileOf(statSocket(provider))}`)
      .join("\n");
  }

  /** The tokens that an earlier daemon gave it can be revoked, too. */
  #leftIn({ account, services }: Consumer): Map<PrincipalName, RevokedToken[]> {
    const left = this.#deps.tokensLeftIn(account);
    const live = new Map<PrincipalName, RevokedToken[]>();
    for (const { role, provider, hearsRevocations } of services) {
      const token = left.get(role);
      if (token !== undefined && hearsRevocations) live.set(provider, [...(live.get(provider) ?? []), token]);
    }
    return live;
  }

  /** Its sandbox is gone: none of its tokens is valid any more. */
  #end(account: PrincipalName): void {
    const given = this.#given.get(account);
    if (given === undefined) return;
    this.#given.delete(account);
    for (const [provider, entries] of given.live) this.#addRevoked(provider, entries);
  }

  /** Revokes what was minted before, for services it no longer requires or with other grants than now. */
  #revokeOutdated({ account }: Consumer, before: Given): void {
    const now = this.#given.get(account);
    if (now === undefined) return;
    const current = new Set([...now.tokens.values()].map(({ id }) => id));
    const changed = [...now.tokens].some(([role, { grants }]) => {
      const old = before.tokens.get(role);
      return old !== undefined && old.grants !== grants;
    });
    for (const [provider, entries] of now.live) {
      const isUsed = entries.some(({ id }) => current.has(id));
      if (isUsed && !changed) continue;
      this.#addRevoked(
        provider,
        entries.filter(({ id }) => !current.has(id)),
      );
      now.live.set(
        provider,
        entries.filter(({ id }) => current.has(id)),
      );
    }
  }

  #addRevoked(provider: PrincipalName, entries: readonly RevokedToken[]): void {
    if (entries.length > 0) this.#revoked.set(provider, [...(this.#revoked.get(provider) ?? []), ...entries]);
  }

  /** Delivers what a service has not received since it listens. Returns when to try again, in milliseconds. */
  async #deliver(): Promise<number> {
    const { clock, mint, revoke, statSocket, log } = this.#deps;
    let waitMs = TOKEN_SECONDS * 1_000;
    for (const [provider, all] of this.#revoked) {
      const entries = all.filter(({ expiresAt }) => expiresAt > clock.now() / 1_000);
      this.#revoked.set(provider, entries);
      const socket = statSocket(provider);
      const state = `${fileOf(socket)} ${entries.map(({ id }) => id).join()}`;
      if (entries.length === 0) {
        this.#revoked.delete(provider);
        this.#delivered.delete(provider);
      } else if (socket !== undefined && this.#delivered.get(provider) !== state) {
        try {
          for (let at = 0; at < entries.length; at += REVOKED_AT_ONCE)
            await revoke(provider, mint.revocation(entries.slice(at, at + REVOKED_AT_ONCE)));
          this.#delivered.set(provider, state);
        } catch (error) {
          // It answered, and knows no revocation: no further request would change that.
          if (isBureauError(error) && error.code === "invalid-input") this.#delivered.set(provider, state);
          else waitMs = RETRY_MS;
          log.warn("services.not-revoked", "cannot tell a service which tokens are revoked", {
            service: provider,
            error,
          });
        }
      }
    }
    return waitMs;
  }
}

/** Another text for another file. Its number may be used again, and a link to it changes its ctime. */
const fileOf = (file: Pick<Stats, "ino" | "mtimeMs"> | undefined): string =>
  file === undefined ? "none" : `${file.ino}:${file.mtimeMs}`;

/** When a token is replaced, in milliseconds since the epoch: at 80 % of its life, and not before its second second. */
const refreshAt = ({ issuedAt, expiresAt }: MintedToken): number =>
  (issuedAt + Math.max(1, Math.floor(((expiresAt - issuedAt) * TOKEN_REFRESH_SECONDS) / TOKEN_SECONDS))) *
  1_000;
