/** `bureau-greeter`: reads its payload, finds its proxy, and greets. SIGHUP makes it read the payload again. */
import { readFileSync } from "node:fs";
import { systemClock } from "@bureau/kit/clock";
import { insidePaths } from "@bureau/schema/inside-paths";
import { Greeter, parsePayload } from "./greeter.ts";
import { openProxySession } from "./proxy-session.ts";

const stop = new AbortController();
const payload = process.env["BUREAU_PAYLOAD_FILE"] || insidePaths.payload;

const greeter = new Greeter({
  openSession: (signal) => openProxySession({ signal }),
  readPayload: () => parsePayload(readFileSync(payload, "utf8")),
  print: (line) => console.log(`${new Date().toISOString().slice(11, 19)}  ${line}`),
  clock: systemClock,
  signal: stop.signal,
});
process.on("SIGTERM", () => stop.abort());
process.on("SIGINT", () => stop.abort());
process.on("SIGHUP", () => greeter.reload());
void greeter.run().then(() => process.exit(0));
