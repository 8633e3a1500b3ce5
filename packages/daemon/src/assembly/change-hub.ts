/**
 * Where subsystems tell each other what changed. A listener runs within `emit`, in the order of subscription, so a change
 * has reached every listener when `emit` returns. A listener only notes the change and wakes a loop; it must not throw.
 */
import type { TimelineEvent } from "@bureau/matrix/event";
import type { PrincipalName } from "@bureau/schema/refs";
import type { Decommission } from "../desired/decommission.ts";
import type { ConnectionState, RoomsChange } from "../machine-connection.ts";
import type { MachineRooms } from "../sync/machine-rooms.ts";

/** Every topic, with what its listeners receive; undefined for a topic that says only that there is a change. */
export type Changes = {
  /** The machine is in its rooms: at each start, and after each return to rooms it had lost. */
  "rooms.joined": MachineRooms;
  /** State in rooms changed, rooms were left, or the machine was invited to one. */
  "rooms.changed": RoomsChange;
  /** A search for a room by its alias has another result. */
  "rooms.searched": undefined;
  /** New messages in the config room. */
  "config.messages": readonly TimelineEvent[];
  "connection.changed": ConnectionState;
  "health.changed": undefined;
  /** A sandbox is about to be removed; emitted again once it is gone or could not be removed. */
  "sandbox.removing": PrincipalName;
  /** The reconciler has looked at what runs and what should. */
  "reconcile.passed": undefined;
  /** A sandbox is gone, or another took its place. */
  "sandbox.gone": undefined;
  /** The machine was asked to leave and no sandbox is left. Emitted at every look of the reconciler. */
  "machine.drained": { readonly decommission: Decommission; readonly stopped: number };
};
export type Topic = keyof Changes;

type Listener<T extends Topic> = (change: Changes[T]) => void;
type Argument<T extends Topic> = Changes[T] extends undefined ? [] : [change: Changes[T]];

export class ChangeHub {
  readonly #listeners: { [T in Topic]?: Set<Listener<T>> } = {};

  /** Calls `listener` at every change until the result is disposed. */
  on<T extends Topic>(topic: T, listener: Listener<T>): Disposable {
    const listeners = this.#of(topic);
    listeners.add(listener);
    return { [Symbol.dispose]: () => void listeners.delete(listener) };
  }

  emit<T extends Topic>(topic: T, ...[change]: Argument<T>): void {
    for (const listener of [...this.#of(topic)]) listener(change as Changes[T]);
  }

  /** Resolves with the next change. */
  next<T extends Topic>(topic: T): Promise<Changes[T]> {
    return new Promise((resolve) => {
      const subscription = this.on(topic, (change) => {
        subscription[Symbol.dispose]();
        resolve(change);
      });
    });
  }

  #of<T extends Topic>(topic: T): Set<Listener<T>> {
    const all: { [Key in T]?: Set<Listener<Key>> } = this.#listeners;
    const listeners = all[topic] ?? new Set();
    all[topic] = listeners;
    return listeners;
  }
}
