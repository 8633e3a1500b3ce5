/** `bureau-supervisor --home DIR`: keeps a rootless instance running after `bureau up` has returned. */
import { parseArgs } from "node:util";
import { BureauError } from "@bureau/kit/errors";
import { buildDir } from "@bureau/os/build-dir";
import { runProgram } from "@bureau/os/lifecycle";
import { useAbsolutePath } from "@bureau/os/search-path";
import { layoutFor } from "./instance.ts";
import { runSupervisor } from "./supervisor.ts";

void runProgram("bureau-supervisor", async ({ log, signal, args }) => {
  const { values } = parseArgs({ args, options: { home: { type: "string" } } });
  if (values.home === undefined) throw new BureauError("invalid-input", "bureau-supervisor needs --home DIR");
  useAbsolutePath();
  const config = { layout: layoutFor(values.home, process.env), buildDir: buildDir() };
  await runSupervisor(config, { log, env: process.env }, signal);
});
