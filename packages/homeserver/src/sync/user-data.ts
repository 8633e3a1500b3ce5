/**
 * Account data and receipts, with marks that tell /sync without a query whether a user or a room has
 * new ones. Every change is durable before it wakes long polls.
 */
import type { Clock } from "@bureau/kit/clock";
import { tooLarge } from "../http/matrix-error.ts";
import type { JsonObject } from "../rooms/room-event.ts";
import type { RoomState } from "../rooms/room-state.ts";
import type { HomeserverDatabase } from "../store/database.ts";
import type { UserDataStore } from "../store/user-data-store.ts";
import type { Notifier } from "./notifier.ts";

/** Bytes of one piece of account data. */
const ACCOUNT_DATA_BYTES_MAX = 262_144;
/** Maximum bytes of one user: an initial /sync sends them at once. */
const ACCOUNT_DATA_TOTAL_BYTES_MAX = 4_194_304;

export type Receipt = { readonly type: string; readonly eventId: string; readonly threadId: string };

export class UserData {
  readonly #accountMarks = new Map<string, number>();
  readonly #receiptMarks = new Map<string, number>();

  readonly #db: HomeserverDatabase;
  readonly #notifier: Notifier;
  readonly #clock: Clock;
  readonly store: UserDataStore;

  constructor(db: HomeserverDatabase, store: UserDataStore, notifier: Notifier, clock: Clock) {
    this.#db = db;
    this.store = store;
    this.#notifier = notifier;
    this.#clock = clock;
    for (const row of store.newestAccountData()) this.#accountMarks.set(row.user_id, row.stream);
    for (const row of store.newestReceipts()) this.#receiptMarks.set(row.room_id, row.stream);
  }

  accountData(userId: string, roomId: string, type: string): JsonObject | undefined {
    return this.store.accountData(userId, roomId, type);
  }

  /** `roomId` is "" for data of the user as a whole. Errors: M_TOO_LARGE. */
  setAccountData(userId: string, roomId: string, type: string, content: JsonObject): void {
    this.#db.transaction(() => {
      const stream = this.#db.advance();
      this.#checkSize(userId, roomId, type, content);
      this.store.setAccountData(userId, roomId, type, content, stream);
      this.#db.afterCommit(() => {
        this.#accountMarks.set(userId, stream);
        this.#notifier.wake(userId);
      });
    });
  }

  /** A change that is not larger is always accepted, so that a user above the limit can get below it. */
  #checkSize(userId: string, roomId: string, type: string, content: JsonObject): void {
    const size = Buffer.byteLength(JSON.stringify(content));
    if (size > ACCOUNT_DATA_BYTES_MAX)
      throw tooLarge(`Account data is larger than ${ACCOUNT_DATA_BYTES_MAX} bytes`);
    const { total, before } = this.store.accountDataBytes(userId, roomId, type);
    if (size > before && total - before + size > ACCOUNT_DATA_TOTAL_BYTES_MAX)
      throw tooLarge(`All account data together is larger than ${ACCOUNT_DATA_TOTAL_BYTES_MAX} bytes`);
  }

  hasAccountDataSince(userId: string, stream: number): boolean {
    return (this.#accountMarks.get(userId) ?? 0) > stream;
  }

  setReceipts(room: RoomState, userId: string, receipts: readonly Receipt[]): void {
    this.#db.transaction(() => {
      const stream = this.#db.advance();
      for (const { type, eventId, threadId } of receipts) {
        const at = { roomId: room.roomId, userId, type, threadId };
        this.store.setReceipt(at, eventId, this.#clock.now(), stream);
      }
      this.#db.afterCommit(() => {
        this.#receiptMarks.set(room.roomId, stream);
        this.#notifier.wakeForEphemeral(room.roomId, "m.receipt");
      });
    });
  }

  hasReceiptsSince(roomId: string, stream: number): boolean {
    return (this.#receiptMarks.get(roomId) ?? 0) > stream;
  }
}
