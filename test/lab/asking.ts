/** A client that sends requests to a machine's sockets in a loop, as fast as they are answered, and counts the failures. */
import { runtimeArguments } from "@bureau/os/runtime-command";
import { quote } from "./execute.ts";
import { buildInside, type Machine } from "./machine.ts";

/** An accepted connection may be cut off when its server ends; a refused connection is always a failure. */
const script = `
const { connect } = require("node:net");
const { existsSync } = require("node:fs");
const [path, hex, enough] = process.argv.slice(2);
const bytes = Buffer.from(hex, "hex");
let [asked, longestMs] = [0, 0];
const refused = [];
const once = () => new Promise((resolve) => {
  asked++;
  const began = performance.now();
  const socket = connect({ path });
  const end = () => { longestMs = Math.max(longestMs, Math.round(performance.now() - began)); resolve(); };
  socket.on("error", (error) => { if (!["ECONNRESET", "EPIPE"].includes(error.code)) refused.push(error.code); end(); });
  socket.on("connect", () => socket.write(bytes));
  socket.on("end", () => socket.destroy());
  socket.on("data", () => socket.destroy());
  socket.on("close", end);
});
// The runtime would exit with only a queued connection.
const awake = setInterval(() => {}, 1_000);
(async () => {
  while (!existsSync(enough)) { await once(); await new Promise((r) => setTimeout(r, Number(process.argv[5]))); }
  clearInterval(awake);
  console.log(JSON.stringify({ asked, refused, longestMs }));
})();
`;

export type Asked = {
  readonly asked: number;
  /** Why, each time. */
  readonly refused: readonly string[];
  readonly longestMs: number;
};

/** The sockets, each with a request that it answers at once. */
export const questions = {
  daemon: { socket: "/run/bureau/observe.sock", what: '{"action":"status"}\n' },
  launcher: { socket: "/run/bureau/launcher.sock", what: "\xa1faction\x66status" },
} as const;

let count = 0;

/** Starts the requests. The returned function stops them and returns the counts. */
export async function startAsking(
  machine: Machine,
  { socket, what }: { readonly socket: string; readonly what: string },
  { pauseMs = 5, timeoutMs = 120_000 } = {},
): Promise<() => Promise<Asked>> {
  const file = `/root/asking-${++count}.js`;
  const enough = `${file}.enough`;
  await machine.writeFile(file, script);
  const hex = Buffer.from(what, "latin1").toString("hex");
  const words = [
    `${buildInside}/runtime/bun`,
    ...runtimeArguments,
    file,
    socket,
    hex,
    enough,
    String(pauseMs),
  ];
  const asked = machine.ok(words.map(quote).join(" "), { user: "root", timeoutMs });
  asked.catch(() => {});
  return async () => {
    await machine.ok(`touch ${enough}`, { user: "root" });
    return JSON.parse(await asked) as Asked;
  };
}
