/**
 * The desired state of the machine, from the configuration in its room, as it is at each call. A configuration
 * that is missing or unreadable as a whole changes nothing: the last good one stays in effect, and the fault is
 * reported once. Only two things stop everything: an empty configuration, and a request to leave, which overrides any
 * configuration.
 */
import type { Log } from "@bureau/kit/log";
import type { RoomStates, RoomView } from "@bureau/matrix/room-state";
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
import { ConfigReader, configSentAt } from "./config-reader.ts";
import { type Decommission, readDecommission } from "./decommission.ts";
import type { Desired } from "./desired.ts";
import type { DesiredResolver } from "./desired-resolver.ts";
import { Memo } from "./memo.ts";
import type { Snapshot } from "./snapshot.ts";

export type DesiredSourceDeps = {
  readonly machine: MachineLocalpart;
  readonly server: ServerName;
  readonly states: RoomStates;
  readonly resolver: Pick<DesiredResolver, "resolve">;
  readonly directory: Snapshot["directory"] & {
    /** Finds and joins those of the needed rooms that are not known yet, in the background. */
    want(aliases: ReadonlySet<RoomAlias>): void;
  };
  readonly members: Snapshot["members"] & {
    /** Follows the members of these rooms, and of no others. */
    want(rooms: ReadonlySet<RoomId>): void;
  };
  /** The state events that are needed, in any room. */
  readonly scope: { want(names: readonly StateName[]): void };
  readonly notify: (message: EventMessage) => void;
  /** Who may do what is known, at each call of {@link DesiredSource.current}. */
  readonly onAuthorization: (index: AuthorizationIndex) => void;
  readonly log: Log;
};

/** What the config room says. */
type Reading = {
  readonly decommission: Decommission | undefined;
  /** Undefined when there is none that can be read. */
  readonly config: MachineConfig | undefined;
  readonly sentAt: number | undefined;
  readonly faults: readonly string[];
};

export class DesiredSource {
  readonly #deps: DesiredSourceDeps;
  #configRoom: RoomId | undefined;
  #serviceRoom: RoomId | undefined;
  readonly #reader = new ConfigReader();
  #lastGood: MachineConfig | undefined;
  /** Read again when the room changed: its view is then another object. */
  readonly #readings = new Memo<"", Reading>();
  #latest: Desired | undefined;
  #told = new Set<string>();
  readonly #unconfigured = Promise.withResolvers<string>();

  constructor(deps: DesiredSourceDeps) {
    this.#deps = deps;
  }

  /** Nothing is known before this call. `serviceRoom`: the fleet's service directory, if the machine is in it. */
  setConfigRoom(room: RoomId, serviceRoom?: RoomId): void {
    this.#serviceRoom = serviceRoom;
    this.#configRoom = room;
  }

  /** The desired state by the rooms as they are now; undefined until a configuration has been seen. */
  current(): Desired | undefined {
    const room = this.#configRoom;
    const view = room === undefined ? undefined : this.#deps.states.room(room);
    if (room === undefined || view === undefined) return this.#latest;
    const reading = this.#readings.of("", { room, view }, () => this.#read(room, view));
    const { config, sentAt, decommission } = reading;
    const faults = [...reading.faults];
    this.#lastGood = config ?? this.#lastGood;
    if (decommission !== undefined) {
      const defaultPolicy = this.#lastGood?.default_policy ?? {};
      this.#latest = {
        principals: new Map(),
        authorization: new AuthorizationIndex(policySources(defaultPolicy, new Map())),
        faults: [],
        aliases: new Set(),
        policyRooms: new Set(),
        conditions: [],
        decommission,
      };
    } else if (this.#lastGood !== undefined) {
      const { states, directory, members, scope, resolver } = this.#deps;
      const resolved = resolver.resolve({
        config: this.#lastGood,
        configRoom: room,
        serviceRoom: this.#serviceRoom,
        states,
        directory,
        members,
      });
      this.#latest = { ...resolved, ...(sentAt === undefined ? {} : { configSentAt: sentAt }) };
      directory.want(this.#latest.aliases);
      members.want(this.#latest.policyRooms);
      scope.want(this.#latest.conditions);
      faults.push(...this.#latest.faults);
    } else this.#unconfigured.resolve(faults.join("; ") || "there is none yet");
    this.#tell(faults);
    if (this.#latest !== undefined) this.#deps.onAuthorization(this.#latest.authorization);
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

  #read(room: RoomId, view: RoomView): Reading {
    const faults: string[] = [];
    const fault = (sentence: string): void => void faults.push(sentence);
    const decommission = readDecommission(room, view, this.#key, fault);
    const config = this.#reader.read(view, this.#key, fault);
    return { decommission, config, sentAt: configSentAt(view, this.#key), faults };
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
