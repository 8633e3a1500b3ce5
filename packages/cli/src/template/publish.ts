/** `bureau template publish`: checks a template and what it inherits from, then writes it to its room. */
import { checkTemplate, publishTemplate, requireResolves } from "@bureau/control/templates/publish-template";
import { BureauError } from "@bureau/kit/errors";
import { readNamed } from "@bureau/os/named-file";
import { jsonObject, parseJson } from "@bureau/schema/parse";
import { parseStateRef } from "@bureau/schema/refs";
import { defineCommand, defineFlags, definePositionals, type Invocation } from "../command/command.ts";
import { openSession } from "../command/operator.ts";
import { jsonFlag, sessionFlags } from "../command/shared-flags.ts";

const flags = defineFlags({
  ...sessionFlags,
  ...jsonFlag,
  file: { type: "string", value: "PATH", summary: 'JSON file; "-" for standard input' },
  "dry-run": { type: "boolean", summary: "Check the template; write nothing" },
});
const positionals = definePositionals([{ name: "ref", summary: "Template reference, bureau/template:mine" }]);
type Asked = Invocation<typeof flags, typeof positionals>;

export const command = defineCommand({
  summary: "Publish a template from a JSON file",
  details: "The file is checked, and so is everything it inherits from, before anything is written.",
  positionals,
  flags,
  examples: ["bureau template publish bureau/template:web --file web.json"],
  run,
});

async function run(invocation: Asked): Promise<void> {
  const { terminal } = invocation;
  const reference = invocation.args.ref;
  parseStateRef(reference);
  const file = invocation.flags.file;
  if (file === undefined)
    throw new BureauError("invalid-input", "No file given: a template is published from JSON", {
      hint: `bureau template publish ${reference} --file PATH`,
    });
  const text = readNamed(file, "the template");
  const content = parseJson(jsonObject, text, `template in "${file}"`);
  const template = checkTemplate(content, reference, `template in "${file}"`);
  const session = openSession(invocation);
  await requireResolves(session, reference, template);
  const dryRun = invocation.flags["dry-run"];
  const event = dryRun ? undefined : await publishTemplate(session, reference, content);
  if (invocation.flags.json)
    terminal.json({ ok: true, ref: reference, event_id: event ?? null, dry_run: dryRun });
  else terminal.say(dryRun ? `"${reference}" is valid; nothing was written` : `Published "${reference}"`);
}
