/** What the commands that change rules share: where the rules are, who edits them, and the users as they are typed. */
import type { Editor } from "@bureau/control/editor";
import type { ConfigPlace } from "@bureau/control/machines/config-parts";
import { configPlace } from "@bureau/control/machines/machine-config";
import { takeTurn } from "@bureau/os/turn";
import { serverOf, type UserId } from "@bureau/schema/refs";
import { machineOf, openSession, type SessionChoice } from "../command/operator.ts";
import type { FleetValue } from "../command/shared-flags.ts";
import { typedPattern, typedUser } from "../command/typed-users.ts";

export type RuleEditor = {
  readonly editor: Editor;
  readonly place: () => Promise<ConfigPlace>;
  readonly user: (typed: string) => UserId;
  readonly pattern: (typed: string) => string;
};

type Choice = SessionChoice & {
  readonly flags: FleetValue & { readonly machine: string | undefined };
};

export function ruleEditor(invocation: Choice): RuleEditor {
  const session = openSession(invocation);
  const machine = machineOf(invocation, invocation.flags.machine);
  const server = serverOf(session.userId);
  return {
    editor: { session, takeTurn },
    place: () => configPlace(session, machine),
    user: (typed) => typedUser(machine, server, typed),
    pattern: (typed) => typedPattern(machine, server, typed),
  };
}
