/** `bureau-supervisor --home DIR`: keeps a rootless instance running after `bureau up` has returned. */

import { parseArgs } from "node:util";
import { BureauError } from "@bureau/kit/errors";
import { runProgram } from "@bureau/kit/lifecycle";
import { useAbsolutePath } from "@bureau/kit/search-path";
import { layoutFor } from "./instance/instance.ts";
import { programsDir } from "./instance/programs-dir.ts";
import { runSupervisor } from "./instance/supervisor.ts";

await runProgram("bureau-supervisor", async ({ log, signal, args }) => {
  const { values } = parseArgs({ args, options: { home: { type: "string" } } });
  if (values.home === undefined) throw new BureauError("invalid-input", "bureau-supervisor needs --home DIR");
  useAbsolutePath();
  const config = { layout: layoutFor(values.home, process.env), programsDir: programsDir() };
  await runSupervisor(config, { log, env: process.env }, signal);
});
