/** One homeserver for a whole test file: started before its first test, stopped and removed after its last. */
import { afterAll, beforeAll } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startTestServer, type TestServer } from "./test-server.ts";

export type UsedServer = {
  /** The server that runs. */
  readonly server: () => TestServer;
  /** After the server was stopped: another one over the same data, at another port. */
  readonly start: () => Promise<void>;
};

/** Registers the hooks. */
export function useTestServer(): UsedServer {
  const folder = mkdtempSync(join(tmpdir(), "bhs-"));
  let running: TestServer | undefined;
  const start = async (): Promise<void> => {
    running = await startTestServer(folder);
  };
  beforeAll(start);
  afterAll(async () => {
    await running?.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const server = (): TestServer => {
    if (running === undefined) throw new Error("this homeserver does not run");
    return running;
  };
  return { server, start };
}
