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

/** A socket like systemd's; `answer` handles a connection. */
function answering(answer: (socket: Socket) => void): OpenProxy {
  const folder = mkdtempSync(join(tmpdir(), "bureau-channel-"));
  const path = join(folder, "spawn.sock");
  const server = createServer({ allowHalfOpen: true }, answer).listen(path);
  cleanUps.push(() => {
    server.close();
    rmSync(folder, { recursive: true });
  });
  return socketProxies(path);
}

/** A program of this test, found by a word that no other process has. */
function running(script: string): { readonly open: OpenProxy; readonly word: string } {
  const word = `channel-test-${crypto.randomUUID()}`;
  return { word, open: childProxies(["/bin/sh", "-c", script, word], tmpdir()) };
}

/** The identity of a process that has ended. */
function unusedPid(): number {
  return Bun.spawnSync(["/bin/true"]).pid;
}

const named = `pid ${process.pid}\n`;

describe("a proxy that does not start", () => {
  test("closes its connection at once, as systemd does while it stops", async () => {
    const open = answering((socket) => void socket.destroy());
    await expect(open(["--spare"])).rejects.toThrow(/its connection closed|Cannot reach the proxies' socket/);
  });

  test("sends its pid, and ends before it is identified", async () => {
    const line = `pid ${unusedPid()}`;
    const open = answering((socket) => {
      socket.write(`${line}\n`);
      socket.destroySoon();
    });
    await expect(open(["--spare"])).rejects.toThrow(`its first line names no running process: "${line}"`);
  });

  test("ends after it received its configuration", async () => {
    const open = answering((socket) => {
      socket.write(named);
      socket.on("data", () => {});
      socket.on("end", () => socket.destroy());
    });
    const channel = await open(["--spare"]);
    channel.send(new Uint8Array(10_000)).catch(() => {});
    await expect(channel.nextLine(5_000)).rejects.toThrow("its connection closed");
  });

  test("sends nothing more", async () => {
    const channel = await answering((socket) => void socket.write(named))(["--spare"]);
    await expect(channel.nextLine(50)).rejects.toThrow("it wrote nothing within 50 ms");
  });

  test("sends another answer, and is killed", async () => {
    const { open, word } = running("echo hello; while :; do sleep 0.05; done");
    await expect(open([])).rejects.toThrow(
      'Cannot start a proxy: its first line names no running process: "hello"',
    );
    const isGone = async () => (findByArguments(word).length === 0 ? true : undefined);
    expect(await waitFor(isGone, { timeoutMs: 5_000, clock: systemClock })).toBe(true);
  });

  test("is a program that exits at once", async () => {
    await expect(running("exit 7").open([])).rejects.toThrow("Cannot start a proxy: it exited with 7");
  });
});

test("stops waiting in time for a proxy that sends data without end", async () => {
  const { open } = running(`echo pid $$; head -c 5000 /dev/zero; exec sleep 60`);
  const channel = await open([]);
  cleanUps.push(() => process.kill(channel.id.pid, "SIGKILL"));
  await expect(channel.nextLine(100)).rejects.toThrow("it wrote nothing within 100 ms");
});
