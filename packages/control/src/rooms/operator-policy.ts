/**
 * What operators may do by default: an administrator of a machine's config room holds every grant there, and may observe
 * the machine's principals. An operator who clears one of these events decides otherwise; commands do not write it again.
 */
import type { MatrixSession } from "@bureau/matrix/session";
import { AuthorizationPolicySchema } from "@bureau/schema/authorization";
import type { RoomAuthorization } from "@bureau/schema/authorization-events";
import { eventTypes } from "@bureau/schema/events";
import { ADMIN_LEVEL } from "@bureau/schema/power";
import type { RoomId, UserId } from "@bureau/schema/refs";
import { safeParse } from "valibot";
import type { Editor } from "../editor.ts";
import type { ConfigPlace } from "../machines/config-parts.ts";
import { editDefaultPolicy } from "../machines/machine-config.ts";

/** `m.bureau.authorization` of a new config room. */
export const operatorGrants: RoomAuthorization = {
  power_level_grants: { [ADMIN_LEVEL]: [{ actions: ["**"], targets: ["**:*"] }] },
};

/** The same for a config room from before. Returns whether it was missing. */
export async function ensureOperatorGrants(session: MatrixSession, room: RoomId): Promise<boolean> {
  if ((await session.getState(room, eventTypes.authorization, "")) !== undefined) return false;
  await session.putState(room, eventTypes.authorization, "", operatorGrants);
  return true;
}

const observation = "observe/**";

/** Lets a person observe the principals of a machine, unless its policy says so already. */
export async function letObserve(editor: Editor, place: ConfigPlace, user: UserId): Promise<void> {
  const actor = user.slice(1);
  await editDefaultPolicy(editor, place, (content) => {
    const parsed = safeParse(AuthorizationPolicySchema, content ?? {});
    // What cannot be read is left as it is: the machine reports it.
    if (!parsed.success) return undefined;
    const { allowances = [] } = parsed.output;
    const isThere = allowances.some(
      ({ actions, actors }) => actions.includes(observation) && actors.includes(actor),
    );
    const added = { actions: [observation], actors: [actor] };
    return isThere ? undefined : { ...parsed.output, allowances: [...allowances, added] };
  });
}
