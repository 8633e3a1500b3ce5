/**
 * Joins the rooms that a service is invited to while it runs, and says in each that it is there (`m.bureau.service_ready`,
 * wire facts, section 6.7). The proxy joins those that waited when the service started.
 *
 * The proxy permits a join only with the grant `matrix/join`.
 */
import type { Log } from "@bureau/kit/log";
import type { MatrixSession } from "@bureau/matrix/session";
import type { SyncResponse } from "@bureau/matrix/sync-response";
import type { RoomId } from "@bureau/schema/refs";
import type { Offer } from "./announcement.ts";

const SERVICE_READY = "m.bureau.service_ready";

export class AcceptedInvitations {
  readonly #session: Pick<MatrixSession, "joinRoom" | "sendEvent">;
  readonly #ready: {
    readonly body: string;
    readonly service_type: string;
    readonly capabilities: readonly string[];
  };
  readonly #log: Log;
  readonly #underWay = new Set<RoomId>();

  constructor(
    session: Pick<MatrixSession, "joinRoom" | "sendEvent">,
    { role, offer }: { readonly role: string; readonly offer: Offer },
    log: Log,
  ) {
    this.#session = session;
    this.#ready = { body: `${role} service ready`, service_type: role, capabilities: offer.capabilities };
    this.#log = log;
  }

  accept({ invited }: Pick<SyncResponse, "invited">): void {
    for (const room of invited.keys()) if (!this.#underWay.has(room)) void this.#acceptOne(room);
  }

  async #acceptOne(room: RoomId): Promise<void> {
    this.#underWay.add(room);
    try {
      await this.#session.joinRoom(room);
      await this.#session.sendEvent(room, SERVICE_READY, this.#ready);
      this.#log.info("room.joined", "joined a room that the service was invited to", { room });
    } catch (error) {
      this.#log.warn("room.join-failed", "cannot accept an invitation; it needs the grant matrix/join", {
        room,
        error,
      });
    } finally {
      this.#underWay.delete(room);
    }
  }
}
