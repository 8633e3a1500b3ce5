/**
 * Account data and receipts with the marks that tell /sync, without a query, whether a user or a room has any that
 * are new. Every change is durable before the long polls that it concerns wake.
 */
import type { Clock } from "@bureau/kit/clock";
import type { JsonObject } from "../rooms/room-event.ts";
import type { RoomState } from "../rooms/room-state.ts";
import type { HomeserverDatabase } from "../store/database.ts";
import type { UserDataStore } from "../store/user-data-store.ts";
import type { Notifier } from "./notifier.ts";

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

  /** `roomId` is "" for data of the user as a whole. */
  setAccountData(userId: string, roomId: string, type: string, content: JsonObject): void {
    this.#db.transaction(() => {
      const stream = this.#db.advance();
      this.store.setAccountData(userId, roomId, type, content, stream);
      this.#db.afterCommit(() => {
        this.#accountMarks.set(userId, stream);
        this.#notifier.wake(userId);
      });
    });
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
        for (const waiting of [...this.#notifier.waitingUsers]) {
          if (room.membership(waiting) === "join") this.#notifier.wake(waiting);
        }
      });
    });
  }

  hasReceiptsSince(roomId: string, stream: number): boolean {
    return (this.#receiptMarks.get(roomId) ?? 0) > stream;
  }
}
