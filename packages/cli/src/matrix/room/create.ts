/** `bureau matrix room create`: a private room with an alias. */
import { requireAccounts } from "@bureau/control/rooms/people";
import { BureauError } from "@bureau/kit/errors";
import { MatrixError } from "@bureau/matrix/matrix-error";
import { aliasOf, parseLocalpart, parseUserId, serverOf } from "@bureau/schema/refs";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../../command/command.ts";
import { openSession } from "../../command/operator.ts";
import { jsonFlag, sessionFlags } from "../../command/shared-flags.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  name: { type: "string", value: "TEXT", summary: "Its name" },
  topic: { type: "string", value: "TEXT", summary: "Its topic" },
  invite: { type: "string", value: "USER", multiple: true, summary: "Invite a user ID" },
});
const positionals = definePositionals([{ name: "alias", summary: "Localpart of its alias" }]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Create a room",
  positionals,
  flags,
  examples: ["bureau matrix room create team/build --name 'Build' --invite @alice:bureau.local"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const session = openSession(invocation);
  const localpart = parseLocalpart(invocation.args.alias, "room alias localpart");
  const invite = invocation.flags.invite.map(parseUserId);
  await requireAccounts(session, invite);
  const name = invocation.flags.name;
  const topic = invocation.flags.topic;
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
  if (invocation.flags.json) invocation.terminal.json({ room_id: room, alias });
  else invocation.terminal.print(`${room} ${alias}`);
}
