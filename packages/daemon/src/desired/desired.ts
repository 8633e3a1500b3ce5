/**
 * The desired state: the outcome of every assignment in the machine's configuration. `desired-resolver.ts` computes it
 * from a snapshot of the rooms; `plan.ts` reads it and never sees a room.
 */
import type { Grant } from "@bureau/schema/authorization";
import type { AuthorizationIndex } from "@bureau/schema/authorization-index";
import type { KeyCiphertexts } from "@bureau/schema/credentials-keys";
import type { RestartPolicy } from "@bureau/schema/events";
import type { SandboxDigests, SandboxSpec } from "@bureau/schema/launcher-ipc";
import type { PrincipalName, RoomAlias, RoomId, UserId } from "@bureau/schema/refs";
import type { HealthCheck } from "@bureau/schema/template";
import type { StateName } from "../sync/sync-scope.ts";
import type { Decommission } from "./decommission.ts";
import type { ServicesOutcome } from "./resolve-services.ts";

/** The desired sandbox: the fields of `create-sandbox`, and the digests that identify them. */
export type WantedSandbox = {
  /** Payload included. */
  readonly spec: SandboxSpec;
  readonly digests: SandboxDigests;
  /** Standard base64 of an age file. */
  readonly credentials: string;
  /** Keys beside the bundle; absent when there are none. */
  readonly credentialKeys?: KeyCiphertexts | undefined;
  readonly grants: Grant[];
  readonly grantsDigest: string;
  /** JSON text of the event that fulfilled the start condition. */
  readonly trigger: string | undefined;
  /** The room of its start condition, when it is not the config room. */
  readonly workspace?: RoomId | undefined;
  /** The services it requires; absent when it requires none. */
  readonly services?: ServicesOutcome | undefined;
  /** The health check of the running sandbox. Not part of its digest: another check restarts nothing. */
  readonly healthCheck?: HealthCheck | undefined;
};

export type DesiredOutcome =
  /** It should run. */
  | { readonly kind: "run"; readonly sandbox: WantedSandbox }
  /** Its start condition does not hold: it should not run. */
  | { readonly kind: "waiting"; readonly reason: string }
  /** auto_start is off: it should not run. */
  | { readonly kind: "stopped" }
  /** The desired sandbox is unknown: nothing starts, and a running sandbox stays as it is. */
  | { readonly kind: "failed"; readonly reason: string }
  /** The same, until its dependencies are looked up. */
  | { readonly kind: "unresolved"; readonly reason: string };

export type DesiredPrincipal = {
  readonly account: PrincipalName;
  readonly userId: UserId;
  /** The reference as assigned; empty when it has none, or could not be read. */
  readonly template: string;
  readonly restartPolicy: RestartPolicy;
  readonly outcome: DesiredOutcome;
};

export type Desired = {
  readonly principals: ReadonlyMap<PrincipalName, DesiredPrincipal>;
  /** What these principals may do, and what others may do to them. */
  readonly authorization: AuthorizationIndex;
  /** Faults of the configuration itself, each a sentence: for `m.bureau.config_invalid`. */
  readonly faults: readonly string[];
  /** Rooms by alias that the configuration names: the room directory resolves and joins them. */
  readonly aliases: ReadonlySet<RoomAlias>;
  /** Rooms that have a policy: their members are needed. */
  readonly policyRooms: ReadonlySet<RoomId>;
  /** State events that start conditions wait for. */
  readonly conditions: readonly StateName[];
  /** When the machine's configuration was written, by the homeserver's clock in milliseconds. */
  readonly configSentAt?: number;
  /** A request to leave: there are no principals, and running sandboxes stop with the grace of the request. */
  readonly decommission?: Decommission;
};
