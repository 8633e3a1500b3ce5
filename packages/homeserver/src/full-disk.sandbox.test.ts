/** A homeserver whose disk is full, a real one: a small file system of its own. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encode, makeRoom, person } from "../../../test/contract/matrix-caller.ts";

/** Room for a few hundred events of 60 KB, and the database's log of as many. */
const DISK_BYTES = 16 * 1_048_576;
const program = join(import.meta.dir, "../../../dist/current/bin/bureau-homeserver");

test("on a full disk writes fail with the reason, and reads work", async () => {
  const folder = mkdtempSync(join(tmpdir(), "bhd-"));
  const data = join(folder, "data");
  writeFileSync(join(folder, "token"), "tok", { mode: 0o600 });
  const child = Bun.spawn(
    [
      ...["bwrap", "--die-with-parent", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc"],
      ...["--size", String(DISK_BYTES), "--tmpfs", data, program, "--data-dir", data],
      ...["--server-name", "bureau.local", "--listen", "127.0.0.1:0"],
      ...["--registration-token-file", join(folder, "token")],
    ],
    { stdout: "pipe", stderr: "inherit" },
  );
  try {
    const { value } = await child.stdout.getReader().read();
    const { url } = JSON.parse(new TextDecoder().decode(value)) as { url: string };
    const server = { url, serverName: "bureau.local", registrationToken: "tok", stop: async () => {} };
    const admin = await person(server);
    // Its first request, which would write when it was seen, comes when the disk is full.
    const quiet = await person(server);
    const room = await makeRoom(admin, { preset: "public_chat" });
    const send = (n: number) =>
      admin.api.put(`/rooms/${encode(room)}/send/m.room.message/${n}`, { body: "x".repeat(60_000) });
    let refused = await send(0);
    for (let n = 1; refused.status === 200 && n < 1_000; n++) refused = await send(n);
    expect(refused).toMatchObject({
      status: 507,
      body: {
        errcode: "M_RESOURCE_LIMIT_EXCEEDED",
        error: "The homeserver's disk is full: reads work, writes fail",
      },
    });
    expect((await quiet.api.get("/account/whoami")).status).toBe(200);
    expect((await quiet.api.get("/sync?timeout=0")).status).toBe(200);
    expect((await admin.api.get(`/rooms/${encode(room)}/messages?dir=b&limit=5`)).status).toBe(200);
  } finally {
    child.kill();
    await child.exited;
    rmSync(folder, { recursive: true, force: true });
  }
}, 90_000);
