import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { quoteForTmux, TmuxControl } from "./tmux-control.ts";

let folder: string;
let client: string[];
let control: TmuxControl;

const tmux = (...args: string[]): string => Bun.spawnSync([...client, ...args]).stdout.toString();
/** Asks until there is a connection that answers. */
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
  test("answers each command with its own output, in order, however many are asked at once", async () => {
    await answered(["display-message", "-p", "ready"]);
    const texts = Array.from({ length: 20 }, (_, index) => `answer ${index}`);
    const answers = await Promise.all(texts.map((text) => control.run(["display-message", "-p", text])));
    expect(answers).toEqual(texts.map((text) => ({ ok: true, lines: [text] })));
  });

  test("tells a refusal from an answer, and keeps working", async () => {
    const refused = await answered(["new-session", "-d", "-s", "first"]);
    expect(refused.ok).toBe(false);
    expect(refused.lines.join()).toContain("duplicate session");
    expect(await control.run(["display-message", "-p", "on"])).toEqual({ ok: true, lines: ["on"] });
  });

  test("passes words of any content as they are", async () => {
    for (const word of ["it's", "a b", '"', "\\", "$HOME", "; kill-server", "~", "", "ä"]) {
      await answered(["set-environment", "-g", "WORD", word]);
      expect(tmux("show-environment", "-g", "WORD").trimEnd()).toBe(`WORD=${word}`);
    }
    expect(quoteForTmux("it's")).toBe("'it'\\''s'");
  });

  test("a word with a line break is not sent: it would be two commands", async () => {
    await answered(["display-message", "-p", "ready"]);
    expect(await control.run(["display-message", "-p", "a\nkill-server"])).toBe("unsent");
    expect(tmux("list-sessions")).toContain("first");
  });

  test("that was too slow answers no caller of the next one", async () => {
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

  test("is lost with its server, tells every caller that waits, and can be opened again", async () => {
    const { lines } = await answered(["display-message", "-p", "#{pid}"]);
    // Stopped, it reads the question and never answers.
    process.kill(Number(lines[0]), "SIGSTOP");
    const waiting = control.run(["display-message", "-p", "x"]);
    process.kill(Number(lines[0]), "SIGKILL");
    expect(await waiting).toBe("unanswered");
    expect(await control.run(["display-message", "-p", "x"])).toBe("unsent");
    tmux("new-session", "-d", "-s", "second", "sleep 1000");
    expect((await answered(["display-message", "-p", "again"])).lines).toEqual(["again"]);
  });
});
