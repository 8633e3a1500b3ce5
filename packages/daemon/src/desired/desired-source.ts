/**
 * The desired state of the machine, from the configuration in its room, resolved again at each call. A configuration
 * that is missing or unreadable as a whole changes nothing: the last good one stays in effect, and the fault is
 * reported once. Only two things stop everything: an empty configuration, and a request to leave, which overrides any
 * configuration.
 */
import type { Log } from "@bureau/kit/log";
import type { RoomStates } from "@bureau/matrix/room-state";
import { AuthorizationIndex } from "@bureau/schema/authorization-index";
import type { MachineConfig } from "@bureau/schema/events";
import {
  type EntityStateKey,
  type MachineLocalpart,
  type RoomAlias,
  type RoomId,
  type ServerName,
  stateKeyOf,
  userIdOf,
} from "@bureau/schema/refs";
import { policySources } from "../authorization/policy-sources.ts";
import { type EventMessage, eventMessage } from "../event-messages/event-message.ts";
import type { StateName } from "../sync/sync-scope.ts";
import { readDecommission } from "./decommission.ts";
import type { Desired } from "./desired.ts";
import { ConfigReader, configSentAt } from "./read-config.ts";
import { resolveDesired } from "./resolve-desired.ts";
import type { RoomLookup } from "./snapshot.ts";

export type DesiredSourceDeps = {
  readonly machine: MachineLocalpart;
  readonly server: ServerName;
  readonly localpartBytesMax: number;
  readonly states: RoomStates;
  readonly directory: {
    lookup(alias: RoomAlias): RoomLookup;
    /** Finds and joins those of the needed rooms that are not known yet, in the background. */
    want(aliases: ReadonlySet<RoomAlias>): void;
  };
  /** The state events that are needed, in any room. */
  readonly scope: { want(names: readonly StateName[]): void };
  readonly notify: (message: EventMessage) => void;
  readonly log: Log;
};

export class DesiredSource {
  readonly #deps: DesiredSourceDeps;
  #configRoom: RoomId | undefined;
  readonly #reader = new ConfigReader();
  #lastGood: MachineConfig | undefined;
  #latest: Desired | undefined;
  #told = new Set<string>();
  readonly #unconfigured = Promise.withResolvers<string>();

  constructor(deps: DesiredSourceDeps) {
    this.#deps = deps;
  }

  /** Nothing is known before this call. */
  setConfigRoom(room: RoomId): void {
    this.#configRoom = room;
  }

  /** The desired state by the rooms as they are now; undefined until a configuration has been seen. */
  current(): Desired | undefined {
    const room = this.#configRoom;
    const view = room === undefined ? undefined : this.#deps.states.room(room);
    if (room === undefined || view === undefined) return this.#latest;
    const faults: string[] = [];
    const decommission = readDecommission(room, view, this.#key, (fault) => faults.push(fault));
    this.#lastGood = this.#reader.read(view, this.#key, (fault) => faults.push(fault)) ?? this.#lastGood;
    if (decommission !== undefined) {
      const defaultPolicy = this.#lastGood?.default_policy ?? {};
      this.#latest = {
        principals: new Map(),
        authorization: new AuthorizationIndex(policySources(defaultPolicy, new Map())),
        faults: [],
        aliases: new Set(),
        conditions: [],
        decommission,
      };
    } else if (this.#lastGood !== undefined) {
      const { machine, server, localpartBytesMax, states, directory, scope } = this.#deps;
      const lookup = (alias: RoomAlias): RoomLookup => directory.lookup(alias);
      const sentAt = configSentAt(view, this.#key);
      const resolved = resolveDesired({
        machine,
        server,
        localpartBytesMax,
        states,
        lookup,
        config: this.#lastGood,
        configRoom: room,
      });
      this.#latest = { ...resolved, ...(sentAt === undefined ? {} : { configSentAt: sentAt }) };
      directory.want(this.#latest.aliases);
      scope.want(this.#latest.conditions);
      faults.push(...this.#latest.faults);
    } else this.#unconfigured.resolve(faults.join("; ") || "there is none yet");
    this.#tell(faults);
    return this.#latest;
  }

  /** Resolves with the reason when the room was read and has no usable configuration: sandboxes stay as they are. */
  get foundUnconfigured(): Promise<string> {
    return this.#unconfigured.promise;
  }

  /** The last result of {@link current}; does not resolve again. */
  get latest(): Desired | undefined {
    return this.#latest;
  }

  /** Faults of the configuration that {@link current} last read, one sentence each. */
  get faults(): readonly string[] {
    return [...this.#told];
  }

  get #key(): EntityStateKey {
    return stateKeyOf(userIdOf(this.#deps.machine, this.#deps.server));
  }

  #tell(faults: readonly string[]): void {
    for (const fault of faults) {
      if (this.#told.has(fault)) continue;
      this.#deps.log.warn("config.invalid", "the configuration of this machine has a fault", { fault });
      this.#deps.notify(eventMessage.configInvalid(fault));
    }
    this.#told = new Set(faults);
  }
}
