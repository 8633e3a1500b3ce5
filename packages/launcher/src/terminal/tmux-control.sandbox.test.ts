import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { quoteForTmux, TmuxControl } from "./tmux-control.ts";

let folder: string;
let client: string[];
let control: TmuxControl;

const tmux = (...args: string[]): string => Bun.spawnSync([...client, ...args]).stdout.toString();
/** Retries until a connection answers. */
async function answered(words: readonly string[]) {
  for (;;) {
    control.open();
    const answer = await control.run(words);
    if (typeof answer !== "string") return answer;
    await Bun.sleep(5);
  }
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tc-"));
  // The dead pane must stay, as it does in the launcher's own configuration.
  writeFileSync(join(folder, "tmux.conf"), "set -g remain-on-exit on\n");
  client = ["tmux", "-S", join(folder, "t.sock"), "-f", join(folder, "tmux.conf")];
  control = new TmuxControl(client, { PATH: process.env["PATH"] ?? "", LANG: "C.UTF-8" });
  tmux("new-session", "-d", "-s", "first", "sleep 1000");
  control.open();
});
afterEach(() => {
  control[Symbol.dispose]();
  tmux("kill-server");
  rmSync(folder, { recursive: true });
});

describe("an open connection to tmux", () => {
  test("answers each command with its own output, in order, for many commands at once", async () => {
    await answered(["display-message", "-p", "ready"]);
    const texts = Array.from({ length: 20 }, (_, index) => `answer ${index}`);
    const answers = await Promise.all(texts.map((text) => control.run(["display-message", "-p", text])));
    expect(answers).toEqual(texts.map((text) => ({ ok: true, lines: [text] })));
  });

  test("distinguishes a refusal from an answer, and keeps working", async () => {
    const refused = await answered(["new-session", "-d", "-s", "first"]);
    expect(refused.ok).toBe(false);
    expect(refused.lines.join()).toContain("duplicate session");
    expect(await control.run(["display-message", "-p", "on"])).toEqual({ ok: true, lines: ["on"] });
  });

  test("passes words of any content unchanged", async () => {
    for (const word of ["it's", "a b", '"', "\\", "$HOME", "; kill-server", "~", "", "ä"]) {
      await answered(["set-environment", "-g", "WORD", word]);
      expect(tmux("show-environment", "-g", "WORD").trimEnd()).toBe(`WORD=${word}`);
    }
    expect(quoteForTmux("it's")).toBe("'it'\\''s'");
  });

  test("refuses a word with a line break: it would be two commands", async () => {
    await answered(["display-message", "-p", "ready"]);
    expect(await control.run(["display-message", "-p", "a\nkill-server"])).toBe("unsent");
    expect(tmux("list-sessions")).toContain("first");
  });

  test("drops the late answer to a command that timed out", async () => {
    const { lines } = await answered(["display-message", "-p", "#{pid}"]);
    process.kill(Number(lines[0]), "SIGSTOP");
    const ask = (word: string) => control.run(["display-message", "-p", word]);
    expect(await ask("one")).toBe("unanswered");
    control.open();
    const later = [ask("two"), ask("three")];
    process.kill(Number(lines[0]), "SIGCONT");
    expect(await Promise.all(later)).toEqual(["two", "three"].map((word) => ({ ok: true, lines: [word] })));
    expect(await ask("four")).toEqual({ ok: true, lines: ["four"] });
  });

  test("ends with its server, fails every waiting call, and can be opened again", async () => {
    const { lines } = await answered(["display-message", "-p", "#{pid}"]);
    // While it is stopped, the server never answers the command.
    process.kill(Number(lines[0]), "SIGSTOP");
    const waiting = control.run(["display-message", "-p", "x"]);
    process.kill(Number(lines[0]), "SIGKILL");
    expect(await waiting).toBe("unanswered");
    expect(await control.run(["display-message", "-p", "x"])).toBe("unsent");
    tmux("new-session", "-d", "-s", "second", "sleep 1000");
    expect((await answered(["display-message", "-p", "again"])).lines).toEqual(["again"]);
  });
});
