/** Changes fields of a template: what the change does to each principal, then the change itself, then what became of it. */
import { canonicalJson } from "@bureau/kit/canonical-json";
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import type { EventId, FleetLocalpart } from "@bureau/schema/refs";
import { followUpdate, isFollowed, markRooms } from "./follow-update.ts";
import {
  editedTemplate,
  type StoredTemplate,
  storedTemplate,
  type TemplateEdit,
  writeEdit,
} from "./template-edit.ts";
import { type Impact, type Touched, templateImpact } from "./template-impact.ts";
import { readResolvedTemplate } from "./template-store.ts";
import type { Outcome } from "./update-outcome.ts";

export type PlannedUpdate = {
  readonly reference: string;
  readonly edit: TemplateEdit;
  readonly stored: StoredTemplate;
  /** False when the template is already as the edit makes it: there is nothing to write. */
  readonly isChange: boolean;
  readonly impact: Impact;
};

/**
 * Reads the template, checks it as edited, and finds the principals of the fleet that it touches. Writes nothing.
 * @throws BureauError `not-found` for an unknown template, `invalid-input` when the edited one is invalid
 */
export async function planTemplateUpdate(
  session: MatrixSession,
  fleet: FleetLocalpart,
  reference: string,
  edit: TemplateEdit,
): Promise<PlannedUpdate> {
  const stored = await storedTemplate(session, reference);
  const draft = editedTemplate(stored.content, edit, reference);
  const resolved = await readResolvedTemplate(session, reference, draft);
  if (!resolved.ok)
    throw new BureauError("invalid-input", `Cannot change "${reference}": ${resolved.problem}`, {
      hint: `bureau template show ${reference} --raw`,
    });
  const isChange = canonicalJson(edit(stored.content)) !== canonicalJson(stored.content);
  return {
    reference,
    edit,
    stored,
    isChange,
    impact: await templateImpact(session, fleet, reference, draft),
  };
}

/** A written change, and the principals whose machines report what becomes of it. */
export type WrittenUpdate = {
  readonly event: EventId;
  readonly followed: readonly Touched[];
  /** Resolves when every followed principal is ready, or has failed, or after `timeoutMs`. */
  readonly outcomes: (options: {
    readonly timeoutMs: number;
    readonly clock: Clock;
    /** `done`: principals with an outcome so far. */
    readonly onProgress: (done: number) => void;
  }) => Promise<ReadonlyMap<Touched, Outcome>>;
};

/**
 * Writes a planned change. With `follows` its outcomes can be waited for; the session must be able to read the config rooms
 * of the machines then. @throws BureauError `conflict` when others keep writing
 */
export async function writeTemplateUpdate(
  session: MatrixSession,
  { reference, edit, stored, impact }: PlannedUpdate,
  { follows }: { readonly follows: boolean },
): Promise<WrittenUpdate> {
  const followed = follows ? impact.touched.filter(isFollowed) : [];
  // What was said before the change says nothing about it.
  const marks = await markRooms(session, followed);
  const event = await writeEdit(session, reference, stored, edit);
  const stands = async (): Promise<boolean> => (await storedTemplate(session, reference)).eventId === event;
  return {
    event,
    followed,
    outcomes: (options) => followUpdate(session, followed, marks, { ...options, stands }),
  };
}

/** Whether every principal that was waited for runs with the change. */
export const isUpdated = (outcomes: ReadonlyMap<Touched, Outcome>): boolean =>
  [...outcomes.values()].every(({ outcome }) => outcome === "healthy" || outcome === "updated");
