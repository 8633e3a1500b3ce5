/** `bureau matrix room create`: a private room with an alias. */

import { requireAccounts } from "@bureau/control/rooms/people";
import { BureauError } from "@bureau/kit/errors";
import { MatrixError } from "@bureau/matrix/matrix-error";
import { aliasOf, parseLocalpart, parseUserId, serverOf } from "@bureau/schema/refs";
import { booleanFlag, type Invocation, listFlag, stringFlag } from "../../command/command.ts";
import { openSession } from "../../command/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const session = openSession(invocation);
  const localpart = parseLocalpart(invocation.args[0] ?? "", "room alias localpart");
  const invite = listFlag(invocation, "invite").map(parseUserId);
  await requireAccounts(session, invite);
  const name = stringFlag(invocation, "name");
  const topic = stringFlag(invocation, "topic");
  const alias = aliasOf(localpart, serverOf(session.userId));
  const room = await session
    .createRoom({
      room_alias_name: localpart,
      preset: "private_chat",
      visibility: "private",
      invite,
      ...(name === undefined ? {} : { name }),
      ...(topic === undefined ? {} : { topic }),
    })
    .catch((error: unknown) => {
      if (!(error instanceof MatrixError) || error.errcode !== "M_ROOM_IN_USE") throw error;
      throw new BureauError("conflict", `There is a room "${alias}" already`, {
        hint: `bureau matrix room members ${localpart}`,
      });
    });
  if (booleanFlag(invocation, "json")) invocation.terminal.json({ room_id: room, alias });
  else invocation.terminal.print(`${room} ${alias}`);
}
