/**
 * The person's terminal: results on stdout, progress and errors on stderr. On a TTY a step in progress is one line
 * that is rewritten; anywhere else each step is a line when it ends. Colour only on a TTY and never with NO_COLOR.
 *
 * The only module of this package that writes to a terminal: it escapes untrusted text from rooms, sandboxes and hosts
 * (kit/harmless), and passes only the colours of {@link Style}.
 */
import { fstatSync, writeSync } from "node:fs";
import { harmless, harmlessJson, harmlessLine } from "@bureau/kit/harmless";
import type { Step, Steps } from "@bureau/kit/run-step";

export type Terminal = Steps & {
  /** A line of the result. */
  print(line: string): void;
  /** The result as JSON, two spaces deep. */
  json(value: unknown): void;
  /** The same, as a line of the step in progress when there is one. */
  note(line: string): void;
  /** Rows in aligned columns under a heading. */
  table(heading: readonly string[], rows: readonly (readonly string[])[]): void;
  readonly style: Style;
};

export type Style = {
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
};

/** Marks a colour of ours. Random, so that untrusted text cannot contain it. */
const seal = `<${crypto.randomUUID()}:`;
const sealed = new RegExp(`${seal}(\\d+)>`, "gu");

const paint =
  (on: boolean, code: number) =>
  (text: string): string =>
    on ? `${seal}${code}>${text}${seal}0>` : text;

/** With the colours that {@link paint} marked, once all else is harmless. */
const colour = (text: string): string => text.replace(sealed, "\u001b[$1m");
const shown = (text: string): string => colour(harmless(text));
const shownInLine = (text: string): string => colour(harmlessLine(text));

/** Spinner frames a second: enough to look alive. */
const FRAMES_PER_SECOND = 8;

export function openTerminal(env: Readonly<Record<string, string | undefined>>): Terminal {
  const live = isatty(2) && env["TERM"] !== "dumb";
  const hasColour = (fd: number): boolean =>
    isatty(fd) && env["NO_COLOR"] === undefined && env["TERM"] !== "dumb";
  const onErr = hasColour(2);
  const style = (on: boolean): Style => ({
    bold: paint(on, 1),
    dim: paint(on, 2),
    red: paint(on, 31),
    green: paint(on, 32),
  });
  const err = style(onErr);
  let current: Step | undefined;
  const begin = (step: Step): Step => {
    const end =
      (act: Step["done"]): Step["done"] =>
      (text) => {
        current = undefined;
        act(text);
      };
    current = { ...step, done: end(step.done), fail: end(step.fail) };
    return current;
  };
  const say = (line: string): void => write(2, `${shown(line)}\n`);
  return {
    print: (line) => write(1, `${shown(line)}\n`),
    json: (value) => write(1, `${harmlessJson(JSON.stringify(value, null, 2))}\n`),
    say,
    table: (heading, rows) => printTable(heading, rows, style(hasColour(1))),
    style: err,
    note: (line) => (current === undefined ? say(line) : current.note(line)),
    step: (text) => begin(live ? liveStep(text, err) : plainStep(text, say)),
  };
}

function plainStep(text: string, say: (line: string) => void): Step {
  let doing = text;
  return {
    update: (next) => {
      doing = next;
    },
    note: (line) => say(`        ${line}`),
    done: (result) => say(`  ok    ${result ?? doing}`),
    fail: (result) => say(`  FAIL  ${result ?? doing}`),
  };
}

function liveStep(text: string, style: Style): Step {
  const frames = ["⠋", "⠙", "⠸", "⠴", "⠦", "⠇"];
  const started = performance.now();
  let doing = text;
  let frame = 0;
  const draw = (): void => {
    const seconds = Math.floor((performance.now() - started) / 1000);
    const time = seconds >= 2 ? style.dim(` ${seconds} s`) : "";
    write(2, `\r\u001b[2K  ${frames[frame++ % frames.length]} ${shownInLine(`${doing}${time}`)}`);
  };
  draw();
  const timer = setInterval(draw, 1000 / FRAMES_PER_SECOND);
  const end = (mark: string, result: string): void => {
    clearInterval(timer);
    write(2, `\r\u001b[2K  ${shown(`${mark} ${result}`)}\n`);
  };
  return {
    update: (next) => {
      doing = next;
      draw();
    },
    note: (line) => {
      write(2, `\r\u001b[2K    ${shown(line)}\n`);
      draw();
    },
    done: (result) => end(style.green("✓"), result ?? doing),
    fail: (result) => end(style.red("✗"), result ?? doing),
  };
}

function printTable(heading: readonly string[], rows: readonly (readonly string[])[], style: Style): void {
  const cells = rows.map((row) => row.map(harmlessLine));
  const widths = heading.map((title, column) =>
    Math.max(title.length, ...cells.map((row) => (row[column] ?? "").length)),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd();
  write(1, `${shown(style.dim(line(heading)))}\n`);
  for (const row of cells) write(1, `${line(row)}\n`);
}

/** Major device numbers of consoles, /dev/tty and pseudo-ttys (devices.txt of the kernel). */
const isTerminalMajor = (major: number): boolean =>
  major === 4 || major === 5 || (major >= 136 && major <= 143);

/** node:tty's isatty, without node:tty, whose import takes longer than all of `--help`. */
function isatty(fd: number): boolean {
  try {
    const stat = fstatSync(fd);
    return stat.isCharacterDevice() && isTerminalMajor((stat.rdev >> 8) & 0xfff);
  } catch {
    return false;
  }
}

/** Writes all of it, also to a pipe whose reader is slow. */
function write(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let offset = 0; offset < bytes.length; ) {
    try {
      offset += writeSync(fd, bytes, offset);
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : "";
      if (code === "EPIPE") return;
      if (code !== "EAGAIN") throw error;
      Bun.sleepSync(1);
    }
  }
}
