/** The input of the desired state: the rooms at one moment. */
import type { RoomStates } from "@bureau/matrix/room-state";
import type { MachineConfig } from "@bureau/schema/events";
import type { MachineLocalpart, RoomAlias, RoomId, ServerName } from "@bureau/schema/refs";
import type { Members } from "../sync/room-members.ts";

/** The state of the search for a room. */
export type RoomLookup =
  | { readonly kind: "joined"; readonly room: RoomId }
  /** Not searched yet, or the homeserver is unreachable. */
  | { readonly kind: "pending" }
  | { readonly kind: "missing"; readonly reason: string };

/** What stays the same while a daemon runs. */
export type Place = {
  readonly machine: MachineLocalpart;
  readonly server: ServerName;
  /** Longest localpart whose sockets fit here, in bytes. */
  readonly localpartBytesMax: number;
};

export type Snapshot = {
  /** The same object until the configuration is written again. */
  readonly config: MachineConfig;
  readonly configRoom: RoomId;
  /** The fleet's service directory; undefined while the machine is not in it. */
  readonly serviceRoom: RoomId | undefined;
  readonly states: RoomStates;
  readonly directory: {
    lookup(alias: RoomAlias): RoomLookup;
    /** Another number after every change of a lookup. */
    readonly revision: number;
  };
  /** Of the rooms that have a policy. */
  readonly members: Members;
};
