/**
 * What a rollout controller follows between two rounds: one long poll that ends when a machine reports a version, when a
 * request or a rollout is written, or when a machine joins. Heartbeats do not end it: there are as many as machines. Who is
 * online is read again after {@link LIST_MS_MAX}.
 */
import type { Clock } from "@bureau/kit/clock";
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
import type { FleetLocalpart, RoomId } from "@bureau/schema/refs";
import { type ListedMachine, listMachinesNow } from "../machines/list-machines.ts";
import { narrowFilter } from "../rooms/narrow-filter.ts";

const followed = [
  eventTypes.rollout,
  eventTypes.machineVersion,
  eventTypes.machineConfig,
  eventTypes.machineKey,
];
/** As often as a machine writes a heartbeat. */
const LIST_MS_MAX = 30_000;
/** The homeserver holds a quiet poll this long at most (wire facts, section 12.1). */
const POLL_MS_MAX = 30_000;

export class FleetWatch {
  readonly #session: MatrixSession;
  readonly #fleet: FleetLocalpart;
  readonly #clock: Clock;
  #since: string | undefined;
  #listed: { readonly at: number; readonly machines: readonly ListedMachine[] } | undefined;

  constructor(options: {
    readonly session: MatrixSession;
    readonly fleet: FleetLocalpart;
    readonly clock: Clock;
  }) {
    this.#session = options.session;
    this.#fleet = options.fleet;
    this.#clock = options.clock;
  }

  /** The machines of the fleet, at most {@link LIST_MS_MAX} old. */
  async machines(): Promise<readonly ListedMachine[]> {
    const now = this.#clock.monotonic();
    if (this.#listed === undefined || now - this.#listed.at >= LIST_MS_MAX)
      this.#listed = { at: now, machines: await listMachinesNow(this.#session, this.#fleet) };
    return this.#listed.machines;
  }

  /** Before the first round, so that no change after its reads is missed. `room`: any that the session is in. */
  async begin(room: RoomId): Promise<void> {
    if (this.#since !== undefined) return;
    const filter = narrowFilter([], { rooms: [room] });
    this.#since = (await this.#session.sync({ timeoutMs: 0, filter })).nextBatch;
  }

  /** Resolves at a change since the last call, or after `timeoutMs`. */
  async change(timeoutMs: number, signal: AbortSignal): Promise<void> {
    const { nextBatch } = await this.#session.sync({
      since: this.#since,
      timeoutMs: Math.min(timeoutMs, POLL_MS_MAX),
      filter: narrowFilter(followed),
      signal,
    });
    this.#since = nextBatch;
  }
}
