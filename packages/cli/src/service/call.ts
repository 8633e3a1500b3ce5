/** `bureau service call`: calls an action of a service of this machine, with a token of the person who types it. */
import { callCbor } from "@bureau/os/cbor-client";
import { serviceToken } from "@bureau/os/daemon-client";
import { readNamed } from "@bureau/os/named-file";
import { jsonObject, parseJson } from "@bureau/schema/parse";
import { unknown } from "valibot";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { requireInstallation } from "../command/installation.ts";
import { storedSession } from "../command/operator.ts";
import { jsonFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({ ...sessionFlags, ...jsonFlag });
const positionals = definePositionals([
  { name: "role", summary: "The role of the service" },
  { name: "action", summary: "What it should do" },
  { name: "fields", summary: 'JSON object, or "-" for standard input (default: {})', optional: true },
]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Call an action of a service of this machine, and print its answer as JSON",
  details: "Your grants decide: the daemon makes a token that carries those for the role.",
  positionals,
  flags,
  examples: [
    "bureau service call directory services",
    `bureau service call ticket show '{"ticket":"tkt-1"}'`,
  ],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { role, action, fields: typed = "{}" } = invocation.args;
  const text = typed === "-" ? readNamed("-", "the fields") : typed;
  const fields = parseJson(jsonObject, text, "fields of the call");
  const { token } = storedSession(invocation);
  const { layout } = requireInstallation(invocation);
  const minted = await serviceToken(layout, { token, service_role: role });
  const request = { ...fields, action, token: Buffer.from(minted.token, "base64") };
  const data = await callCbor(minted.socket_path, request, unknown(), {
    peer: `service "${role}"`,
    hint: "bureau agent list",
  });
  if (invocation.flags.json) invocation.terminal.json(data ?? null);
  else invocation.terminal.print(JSON.stringify(data ?? null, null, 2));
}
