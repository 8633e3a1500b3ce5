/** What desired state is computed from: a picture of the rooms at one moment. */
import type { RoomStates } from "@bureau/matrix/room-state";
import type { MachineConfig } from "@bureau/schema/events";
import type { MachineLocalpart, RoomAlias, RoomId, ServerName } from "@bureau/schema/refs";

/** Where looking for a room got to. */
export type RoomLookup =
  | { readonly kind: "joined"; readonly room: RoomId }
  /** Not looked for yet, or the homeserver is away. */
  | { readonly kind: "pending" }
  | { readonly kind: "missing"; readonly reason: string };

export type Snapshot = {
  readonly machine: MachineLocalpart;
  readonly server: ServerName;
  /** Longest localpart whose sockets fit here, in bytes. */
  readonly localpartBytesMax: number;
  readonly config: MachineConfig;
  readonly configRoom: RoomId;
  readonly states: RoomStates;
  readonly lookup: (alias: RoomAlias) => RoomLookup;
};
