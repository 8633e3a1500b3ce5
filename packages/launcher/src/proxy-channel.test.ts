import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { waitFor } from "@bureau/kit/wait-for";
import { findByArguments } from "@bureau/os/process-table";
import { childProxies, type OpenProxy, socketProxies } from "./proxy-channel.ts";

const cleanUps: (() => void)[] = [];
afterEach(() => {
  for (const cleanUp of cleanUps.splice(0)) cleanUp();
});

/** What systemd's socket does with a connection is up to `answer`. */
function answering(answer: (socket: Socket) => void): OpenProxy {
  const folder = mkdtempSync(join(tmpdir(), "bureau-channel-"));
  const path = join(folder, "spawn.sock");
  const server = createServer({ allowHalfOpen: true }, answer).listen(path);
  cleanUps.push(() => {
    server.close();
    rmSync(folder, { recursive: true });
  });
  return socketProxies(path, () => {});
}

/** Programs of its own, to be found again by a word that no other process has. */
function running(script: string): { readonly open: OpenProxy; readonly word: string } {
  const word = `channel-test-${crypto.randomUUID()}`;
  return { word, open: childProxies(["/bin/sh", "-c", script, word], tmpdir(), () => {}) };
}

/** A process that was, and is not. */
function unusedPid(): number {
  return Bun.spawnSync(["/bin/true"]).pid;
}

const named = `pid ${process.pid}\n`;

describe("a proxy that does not come to be", () => {
  test("closes its connection at once, as systemd does while it stops", async () => {
    const open = answering((socket) => void socket.destroy());
    await expect(open(["--spare"])).rejects.toThrow(/its connection closed|Cannot reach the proxies' socket/);
  });

  test("says what it is, and is gone before it is looked at", async () => {
    const line = `pid ${unusedPid()}`;
    const open = answering((socket) => {
      socket.write(`${line}\n`);
      socket.destroySoon();
    });
    await expect(open(["--spare"])).rejects.toThrow(`its first line names no running process: "${line}"`);
  });

  test("ends when it has been told what it is to be", async () => {
    const open = answering((socket) => {
      socket.write(named);
      socket.on("data", () => {});
      socket.on("end", () => socket.destroy());
    });
    const channel = await open(["--spare"]);
    channel.send(new Uint8Array(10_000)).catch(() => {});
    await expect(channel.nextLine(5_000)).rejects.toThrow("its connection closed");
  });

  test("says nothing more", async () => {
    const channel = await answering((socket) => void socket.write(named))(["--spare"]);
    await expect(channel.nextLine(50)).rejects.toThrow("it wrote nothing within 50 ms");
  });

  test("says something else, and is ended", async () => {
    const { open, word } = running("echo hello; while :; do sleep 0.05; done");
    await expect(open([])).rejects.toThrow(
      'Cannot start a proxy: its first line names no running process: "hello"',
    );
    const isGone = async () => (findByArguments(word).length === 0 ? true : undefined);
    expect(await waitFor(isGone, { timeoutMs: 5_000, clock: systemClock })).toBe(true);
  });

  test("is a program that exits", async () => {
    await expect(running("exit 7").open([])).rejects.toThrow("Cannot start a proxy: it exited with 7");
  });
});

test("a proxy that talks without an end is given up in time, though it keeps talking", async () => {
  const { open } = running(`echo pid $$; head -c 5000 /dev/zero; exec sleep 60`);
  const channel = await open([]);
  cleanUps.push(() => process.kill(channel.id.pid, "SIGKILL"));
  await expect(channel.nextLine(100)).rejects.toThrow("it wrote nothing within 100 ms");
});
