/** `bureau matrix user list`: the people who can log in. */
import { listPeople } from "@bureau/control/rooms/people";
import { defineCommand, defineFlags, type Invocation } from "../../command/command.ts";
import { namespaceOfInvocation, openSession, serverAdmin } from "../../command/operator.ts";
import { adminTokenFlag, fleetFlag, jsonFlag, sessionFlags } from "../../command/shared-flags.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag, ...fleetFlag, ...adminTokenFlag });
type Asked = Invocation<typeof flags>;

export const command = defineCommand({
  summary: "List the people who can log in",
  flags,
  examples: ["bureau matrix user list"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const session = openSession(invocation);
  const people = await listPeople(session, namespaceOfInvocation(invocation), serverAdmin(invocation));
  if (invocation.flags.json)
    terminal.json({
      users: people.map(({ userId, isAdmin, isClosed }) => ({
        user_id: userId,
        ...(isAdmin === undefined ? {} : { server_admin: isAdmin, closed: isClosed }),
      })),
    });
  else
    terminal.table(
      ["USER", "ACCOUNT"],
      people.map(({ userId, isAdmin, isClosed }) => [
        userId,
        isAdmin === undefined ? "member" : isClosed ? "closed" : isAdmin ? "server admin" : "open",
      ]),
    );
}
