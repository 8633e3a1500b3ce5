/** Output on a real terminal, created by `script`. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { evalCommand } from "@bureau/os/runtime-command";

const forged = "\u001b]0;mine\u0007 \u001b[31mred\u001b[0m \u009b2J";

/** Runs `act` with a command-line terminal under `script`; returns the output. */
async function shownBy(act: string): Promise<string> {
  const code = `import { openTerminal } from ${JSON.stringify(join(import.meta.dirname, "terminal.ts"))};
const terminal = openTerminal({ TERM: "xterm" });
const forged = ${JSON.stringify(forged)};
${act}`;
  const command = evalCommand(code)
    .map((word) => `'${word.replaceAll("'", "'\\''")}'`)
    .join(" ");
  const child = Bun.spawn(["script", "-qec", command, "/dev/null"], { stdin: "ignore", stderr: "inherit" });
  return child.stdout.text();
}

test("untrusted text cannot control the terminal, in every way of printing", async () => {
  const acts = [
    "terminal.print(forged)",
    "terminal.say(forged)",
    "terminal.json({ forged })",
    "terminal.table(['A', 'B'], [[forged, 'b']])",
    "terminal.step('x').done(forged)",
    "{ const step = terminal.step(forged); step.update(forged); step.note(forged); step.fail(forged) }",
    "terminal.print(terminal.style.bold(forged))",
  ];
  const shown = await shownBy(acts.join(";\n"));
  expect(shown.match(/mine/gu)?.length).toBeGreaterThanOrEqual(acts.length);
  expect(shown).not.toContain("\u001b]");
  expect(shown).not.toContain("\u009b");
  expect(shown).not.toContain("\u001b[31mred");
});

test("shows the program's own colours", async () => {
  expect(await shownBy("terminal.print(terminal.style.red('error:') + ' no')")).toContain(
    "\u001b[31merror:\u001b[0m no",
  );
});
