/** `bureau-call ROLE ACTION [JSON]`: calls a service from a shell in a sandbox, and prints its answer as JSON. */
import { BureauError, isBureauError, messageOf } from "@bureau/kit/errors";
import { jsonObject, parseJson } from "@bureau/schema/parse";
import { unknown } from "valibot";
import { callService } from "./call-service.ts";

const exits = { done: 0, failed: 1, usage: 2, denied: 3 } as const;

async function main([role, action, fields = "{}", ...rest]: readonly string[]): Promise<number> {
  if (role === undefined || action === undefined || rest.length > 0) {
    process.stderr.write("usage: bureau-call ROLE ACTION [JSON]\n");
    return exits.usage;
  }
  try {
    const data = await callService(
      role,
      action,
      parseJson(jsonObject, fields, "fields of the call"),
      unknown(),
    );
    process.stdout.write(`${JSON.stringify(data ?? null)}\n`);
    return exits.done;
  } catch (error) {
    const hint = error instanceof BureauError && error.hint !== "" ? `\nhint: ${error.hint}` : "";
    process.stderr.write(`error: ${messageOf(error)}${hint}\n`);
    const isDenied = isBureauError(error) && (error.code === "forbidden" || error.code === "unauthorized");
    return isDenied ? exits.denied : exits.failed;
  }
}

void main(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
