/** A minimal program that replaces itself and keeps its socket: the floor of `bench/upgrade.ts`. */
import { createServer } from "node:net";
import { duplicate, duplicateOnto, execve, listenAt, setCloseOnExec } from "@bureau/os/posix";
import { runtimeCommand } from "@bureau/os/runtime-command";

const [, script = "", path = "", inherited] = process.argv;
const HANDED_FD = 3;
/** Out of the way of what the runtime opens. */
const KEPT_FD_LEAST = 10;
const fd = inherited === undefined ? listenAt(path) : HANDED_FD;
const kept = duplicate(fd, KEPT_FD_LEAST);
if (kept === undefined) throw new Error("the socket is not open");
setCloseOnExec(fd, true);
const server = createServer((socket) => {
  socket.once("data", (data) => {
    socket.end("pong");
    if (data.toString() === "exec") server.close(replace);
  });
}).listen({ fd });

function replace(): void {
  if (kept === undefined) return;
  duplicateOnto(kept, HANDED_FD);
  throw new Error(execve(process.execPath, runtimeCommand(script, path, "again"), process.env));
}
