/**
 * A spare proxy goes through its start once before it is told who it is, with nothing at stake: a configuration without
 * credentials, on sockets in a folder that no other user may enter, removed at once. What the runtime compiles and sets up
 * the first time then costs nothing when a sandbox waits (measured: 7 ms become 3).
 */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { encodeCbor } from "@bureau/kit/cbor";
import { rehearsalSockets } from "@bureau/os/layout";
import { silentLog } from "@bureau/os/log";
import { startProxy } from "./proxy.ts";
import { readStart } from "./read-start.ts";

/** Never throws: a proxy that could not rehearse only starts more slowly. `inFolder` is where its sockets may be. */
export async function rehearse(inFolder: string): Promise<void> {
  try {
    const folder = mkdtempSync(join(inFolder, "spare-"));
    try {
      const sockets = rehearsalSockets(folder);
      const bytes = encodeCbor({
        principal: "agent/rehearsal",
        socket_path: sockets.proxy,
        admin_socket_path: sockets.admin,
        matrix_user_id: "@rehearsal:localhost",
        credentials: { NAME: "value" },
        grants: [{ actions: ["none"] }],
        services: { none: { upstream: "http://127.0.0.1", inject_headers: { Authorization: "NAME" } } },
      });
      const stream = new ReadableStream<Uint8Array>({
        start(controller) {
          controller.enqueue(bytes);
          controller.close();
        },
      });
      const proxy = await startProxy(await readStart(stream), { log: silentLog });
      await proxy[Symbol.asyncDispose]();
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  } catch {
    // The real start reports what is wrong with the real configuration.
  }
}
