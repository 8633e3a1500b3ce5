import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInstance, layoutFor } from "@bureau/instance/instance";
import { observeSocket } from "@bureau/os/layout";
import { root } from "../all-commands.ts";
import { runCommand } from "../command/run.ts";
import { openTerminal } from "../command/terminal.ts";

let home = "";
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "bdb-"));
  const layout = layoutFor(home, {});
  createInstance(layout, "http://127.0.0.1:1");
  mkdirSync(dirname(observeSocket(layout)), { recursive: true });
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

/** Runs `bureau debug` with a daemon that answers with `reply`. */
async function debug(part: string, reply: object) {
  const asked: unknown[] = [];
  using _daemon = Bun.listen({
    unix: observeSocket(layoutFor(home, {})),
    socket: {
      data(socket, bytes) {
        asked.push(JSON.parse(bytes.toString()));
        socket.write(`${JSON.stringify(reply)}\n`);
      },
    },
  });
  const printed: unknown[] = [];
  const said: string[] = [];
  const terminal = {
    ...openTerminal({}),
    json: (value: unknown) => void printed.push(value),
    say: (line: string) => void said.push(line),
  };
  const code = await runCommand(root, ["debug", part, "--home", home], terminal, {});
  return { code, asked, printed, said: said.join("\n") };
}

test("requests each part from the daemon, and prints the answer as JSON", async () => {
  for (const part of ["plan", "rooms", "state", "authorization"]) {
    const view = { of: part };
    const { code, asked, printed } = await debug(part, { ok: true, part, view });
    expect({ code, asked, printed }).toEqual({
      code: 0,
      asked: [{ action: "debug", part }],
      printed: [view],
    });
  }
});

test("reports a daemon of an older build as the reason", async () => {
  const reply = { ok: false, error: 'unknown action "debug"', code: "invalid-input" };
  const { code, printed, said } = await debug("plan", reply);
  expect(code).toBe(1);
  expect(printed).toEqual([]);
  expect(said).toContain('unknown action "debug"');
  expect(said).toContain("machine upgrade --local");
});
