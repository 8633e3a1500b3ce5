/** `bureau agent create`: creates an agent, and returns when it runs. */
import { createPrincipal } from "@bureau/control/principals/principals";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { Step } from "@bureau/kit/run-step";
import { checkContent } from "@bureau/matrix/event-content";
import type { MatrixSession } from "@bureau/matrix/session";
import { readNamedSecret } from "@bureau/os/named-file";
import { takeTurn } from "@bureau/os/turn";
import { type RestartPolicy, restartPolicies } from "@bureau/schema/events";
import { jsonObject, parseJson } from "@bureau/schema/parse";
import {
  aliasOf,
  type MachineLocalpart,
  namespaceOf,
  parseStateRef,
  principalNameOf,
  principalOfUser,
  type RoomAlias,
  type RoomId,
  rooms,
  serverOf,
  type UserId,
} from "@bureau/schema/refs";
import {
  defineCommand,
  defineFlags,
  definePositionals,
  type Invocation,
  UsageError,
} from "../command/command.ts";
import { type Pair, parseKeyValue, parseVariable } from "../command/key-value.ts";
import {
  administratorCredentials,
  isHere,
  machineOf,
  openSession,
  principalOf,
  roomArgument,
  serverAdmin,
  sessionFile,
} from "../command/operator.ts";
import { roomMemoryFile } from "../command/room-memory-file.ts";
import { sayNext } from "../command/say-next.ts";
import { adminTokenFlag, escrowFlag, jsonFlag, machineFlag, sessionFlags } from "../command/shared-flags.ts";
import { asTyped } from "../command/typed-command.ts";
import { readAbsence } from "../machine/absence.ts";
import { reportAgent, waitUntilStarted } from "./agent-report.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  ...machineFlag,
  name: {
    type: "string",
    value: "NAME",
    summary: "Its name, when the argument is a template reference",
  },
  template: { type: "string", value: "REF", summary: "Template (default: bureau/template:agent)" },
  command: {
    type: "string",
    value: "SHELL",
    summary: "Run this with /bin/sh -c instead of the template's command",
  },
  env: { type: "string", value: "K=V", multiple: true, summary: "Environment variable" },
  payload: { type: "string", value: "JSON", summary: "Payload object, merged over the template's" },
  credential: {
    type: "string",
    value: "NAME=FILE",
    multiple: true,
    summary: "Credential for its proxy, read from a file; the agent itself never sees it",
  },
  "restart-policy": {
    type: "string",
    value: "POLICY",
    summary: "always (default), on-failure or never",
  },
  room: {
    type: "string",
    value: "ROOM",
    multiple: true,
    summary: "A room it joins, alias or ID (default: the lobby)",
  },
  "new-credentials": {
    type: "boolean",
    summary: "Create a new session for an agent that already exists",
  },
  ...escrowFlag,
  ...adminTokenFlag,
  "no-wait": { type: "boolean", summary: "Return before the machine has started it" },
});
const positionals = definePositionals([
  { name: "name", summary: "Its name, or a template reference together with --name" },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Create an agent and start it, or change one",
  details:
    "Creates a Matrix account, seals the agent's credentials to the machine's key, and assigns the agent in the machine's\nconfiguration. The machine then starts it in its own sandbox.",
  positionals,
  flags,
  examples: [
    "bureau agent create demo --command 'echo hello; sleep 1000'",
    "bureau agent create bureau/template:greeter --name doorman --json",
  ],
  run,
});

async function run(invocation: Asked): Promise<number> {
  const { terminal } = invocation;
  const { name, template } = nameAndTemplate(invocation);
  const machine = machineOf(invocation, invocation.flags.machine);
  const principal = principalOf(machine, name);
  const credentials = administratorCredentials(invocation);
  const session = openSession(invocation);
  // Report usage errors before asking the user for input.
  const given = credentialFlags(invocation);
  const assignment = {
    template: template ?? `${rooms.template(namespaceOf(machine))}:agent`,
    auto_start: true,
    ...commandFlag(invocation),
    ...environmentFlag(invocation),
    ...payloadFlag(invocation),
    ...restartFlag(invocation),
  };
  const shown = terminal.step(`Creating ${principalNameOf(principal)} on ${machine}`);
  try {
    const { user, sentAt } = await createPrincipal({
      session,
      takeTurn,
      registrationToken: credentials.registrationToken,
      homeserver: session.homeserver,
      admin: serverAdmin(invocation),
      machine,
      principal,
      joins: roomsToJoin(invocation, session),
      memory: roomMemoryFile(sessionFile(invocation), session),
      ...given,
      escrowKeys: invocation.flags["escrow-key"],
      assignment,
    });
    if (!isHere(invocation, machine))
      return await leaveToMachine(invocation, session, shown, { machine, user });
    if (invocation.flags["no-wait"]) return assigned(invocation, shown, { machine, user });
    shown.update(`Waiting for ${machine} to start ${principalNameOf(principal)}`);
    const report = await waitUntilStarted(invocation, user, sentAt, systemClock);
    const ok = report.state === "running" || report.state === "completed" || report.state === "waiting";
    const sentence = `${report.name} is ${report.state}${report.reason === undefined ? "" : `: ${asTyped(report.reason)}`}`;
    if (ok) shown.done(sentence);
    else shown.fail(sentence);
    if (invocation.flags.json) terminal.json({ ok, ...reportAgent(report) });
    return ok ? 0 : 1;
  } catch (error) {
    shown.fail();
    throw error;
  }
}

type Assigned = { readonly machine: MachineLocalpart; readonly user: UserId };

/** The exit code. `reason` says why the machine does not start it now. */
function assigned(invocation: Asked, shown: Step, { machine, user }: Assigned, reason?: string): number {
  const name = principalNameOf(principalOfUser(user));
  const isFault = reason !== undefined && !invocation.flags["no-wait"];
  const sentence = `Assigned ${name} to ${machine}${reason === undefined ? "" : `, which ${reason} and starts it when it is back`}`;
  if (isFault) shown.fail(sentence);
  else shown.done(sentence);
  if (invocation.flags.json)
    invocation.terminal.json({
      ok: !isFault,
      name,
      user_id: user,
      machine,
      state: "assigned",
      ...(reason === undefined ? {} : { reason: `${machine} ${reason}` }),
    });
  return isFault ? 1 : 0;
}

/** Another machine reports its agents in heartbeats only, so this reports whether that machine is online. */
async function leaveToMachine(
  invocation: Asked,
  session: MatrixSession,
  shown: Step,
  to: Assigned,
): Promise<number> {
  const isWaiting = !invocation.flags["no-wait"];
  const code = assigned(invocation, shown, to, await readAbsence(session, to.machine, isWaiting));
  sayNext(invocation.terminal, `bureau agent list --machine ${to.machine} shows its state`);
  return code;
}

function nameAndTemplate(invocation: Asked): { name: string; template: string | undefined } {
  const argument = invocation.args.name;
  const flag = invocation.flags.name;
  const template = invocation.flags.template;
  if (!argument.includes(":")) {
    if (flag !== undefined)
      throw new UsageError(
        `Two names given: "${argument}" and --name "${flag}"`,
        `--name is for a template reference: bureau agent create ${template ?? "REF"} --name ${flag}`,
      );
    if (template !== undefined) parseStateRef(template);
    return { name: argument, template };
  }
  parseStateRef(argument);
  if (template !== undefined)
    throw new UsageError(
      `Two templates given: "${argument}" and --template "${template}"`,
      `bureau agent create NAME --template REF, or bureau agent create REF --name NAME`,
    );
  if (flag === undefined)
    throw new BureauError("invalid-input", `No name given for an agent from the template "${argument}"`, {
      hint: `bureau agent create ${argument} --name NAME`,
    });
  return { name: flag, template: argument };
}

async function roomsToJoin(
  invocation: Asked,
  session: ReturnType<typeof openSession>,
): Promise<(RoomId | RoomAlias)[]> {
  const typed = invocation.flags.room;
  if (typed.length > 0) return await Promise.all(typed.map((room) => roomArgument(session, room)));
  const namespace = namespaceOf(machineOf(invocation, invocation.flags.machine));
  return [aliasOf(rooms.lobby(namespace), serverOf(session.userId))];
}

function commandFlag(invocation: Asked): { command_override?: string[] } {
  const command = invocation.flags.command;
  return command === undefined ? {} : { command_override: ["/bin/sh", "-c", command] };
}

function environmentFlag(invocation: Asked): { extra_environment_variables?: Record<string, string> } {
  const entries = invocation.flags.env.map(parseVariable);
  return entries.length === 0 ? {} : { extra_environment_variables: Object.fromEntries(entries) };
}

const credentialPair: Pair = {
  what: "--credential",
  form: "NAME=FILE",
  example: "--credential API_KEY=./key.txt, or API_KEY=- for standard input",
};

/** Values come from files, never from arguments: those are visible to every process of the host. */
function credentialFlags(invocation: Asked): {
  newCredentials: boolean;
  credentials: Record<string, string>;
} {
  const entries = invocation.flags.credential.map((pair): [string, string] => {
    const [name, file] = parseKeyValue(pair, credentialPair);
    return [name, readNamedSecret(file, `the credential ${name} in`)];
  });
  return {
    newCredentials: invocation.flags["new-credentials"],
    credentials: Object.fromEntries(entries),
  };
}

function payloadFlag(invocation: Asked): { payload?: Record<string, unknown> } {
  const text = invocation.flags.payload;
  if (text === undefined) return {};
  const payload = parseJson(jsonObject, text, "--payload");
  checkContent(payload, "--payload");
  return { payload };
}

function restartFlag(invocation: Asked): { restart_policy?: RestartPolicy } {
  const typed = invocation.flags["restart-policy"];
  if (typed === undefined) return {};
  const policy = restartPolicies.find((known) => known === typed);
  if (policy === undefined)
    throw new BureauError(
      "invalid-input",
      `--restart-policy "${typed}" is not one of ${restartPolicies.join(", ")}`,
    );
  return { restart_policy: policy };
}
