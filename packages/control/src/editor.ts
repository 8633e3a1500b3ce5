/**
 * Who edits a shared event. Matrix has no compare-and-set: two writers of one user on one host would overwrite each
 * other's edits, so they take turns by a lock that the caller hands in. The CLI hands in a lock on a file; a single process
 * may hand in a queue. Edits by other hosts are seen when the event is written (matrix/edit-state).
 */
import type { MatrixSession } from "@bureau/matrix/session";

/** Waits for the lock. Disposing of the result releases it. @throws BureauError `conflict` when the lock stays held */
export type TakeTurn = () => Promise<Disposable>;

export type Editor = { readonly session: MatrixSession; readonly takeTurn: TakeTurn };

/** The turn of an edit within another one, which holds it already. */
export const turnIsHeld: TakeTurn = async () => ({ [Symbol.dispose]() {} });
