/** The least that a service can be: a unix socket that answers one chunk with the same bytes. `bun echo-program.ts SOCKET` */
import { createServer } from "node:net";

createServer((socket) => {
  socket.on("error", () => {});
  socket.once("data", (bytes) => socket.end(bytes));
}).listen({ path: process.argv[2] ?? "" }, () => console.log("ready"));
