/** Which service answers a role (wire facts, section 3.8): state of a workspace's room, or of a machine's config room. */
import type { MatrixSession } from "@bureau/matrix/session";
import { eventTypes } from "@bureau/schema/events";
import type { RoomId, UserId } from "@bureau/schema/refs";
import { parseServiceRole } from "@bureau/schema/service-requirement";

/** Sandboxes that require the role get the service without a restart. Undefined removes the binding. @throws MatrixError */
export async function bindService(
  session: Pick<MatrixSession, "putState">,
  room: RoomId,
  role: string,
  provider: UserId | undefined,
): Promise<void> {
  const content = provider === undefined ? {} : { principal: provider };
  await session.putState(room, eventTypes.serviceBinding, parseServiceRole(role), content);
}
