/** Listens on a socket by its folder's descriptor: a socket's address holds 107 bytes, its path may have more. */
import { closeSync, openSync } from "node:fs";
import { basename, dirname } from "node:path";
import type { Bridge } from "@bureau/os/bridge";

/** `start` gets a short path of `socket`. */
export async function inOwnFolder(socket: string, start: (path: string) => Promise<Bridge>): Promise<Bridge> {
  const folder = openSync(dirname(socket), "r");
  try {
    const bridge = await start(`/proc/self/fd/${folder}/${basename(socket)}`);
    return {
      listening: { kind: "unix", path: socket },
      [Symbol.dispose]() {
        bridge[Symbol.dispose]();
        closeSync(folder);
      },
    };
  } catch (error) {
    closeSync(folder);
    throw error;
  }
}
