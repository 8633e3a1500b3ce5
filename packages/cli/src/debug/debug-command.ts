/** What the four commands of `bureau debug` share: they ask this machine's daemon, and print its answer as JSON. */
import { BureauError, isBureauError } from "@bureau/kit/errors";
import { debugView } from "@bureau/os/daemon-client";
import type { DebugPart } from "@bureau/schema/observe-wire";
import { type CommandDefinition, defineCommand } from "../command/command.ts";
import { requireInstallation } from "../command/installation.ts";
import { homeFlag, jsonFlag } from "../command/shared-flags.ts";

export const debugCommand = (part: DebugPart, summary: string): CommandDefinition =>
  defineCommand({
    summary,
    details:
      "For debugging. The output is JSON, with or without --json. It is not stable: it changes with the code. It holds no\ncredentials, payloads, environments or tokens.",
    flags: { ...homeFlag, ...jsonFlag },
    examples: [`bureau debug ${part} --json`],
    run: async (invocation) => {
      const { layout } = requireInstallation(invocation);
      invocation.terminal.json(await debugView(layout, part).catch(explain));
    },
  });

function explain(error: unknown): never {
  if (!isBureauError(error) || error.code !== "invalid-input") throw error;
  throw new BureauError("unsupported", `The daemon refused the request: ${error.message}`, {
    cause: error,
    hint: "its build may be older than this command: bureau machine upgrade --local --host-env PATH",
  });
}
