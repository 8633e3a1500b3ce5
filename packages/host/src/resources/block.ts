/**
 * Lines of ours in a file that somebody else writes too: between two marks, so that exactly they are replaced and removed,
 * whatever has become of the rest meanwhile.
 */
import { chownSync } from "node:fs";
import { readIfPresent, removeDurably, writeDurably } from "@bureau/os/durable-file";
import { look } from "../system/look.ts";

const BEGIN = "# Bureau: written by bureau machine doctor --fix";
const END = "# Bureau: end";

/** The file's text with these lines of ours at its end, instead of those it has; without any when there are none. */
export function withBlock(text: string, lines: readonly string[]): string {
  const kept: string[] = [];
  let isOurs = false;
  for (const line of text === "" ? [] : text.replace(/\n$/, "").split("\n")) {
    if (line === BEGIN) isOurs = true;
    if (!isOurs) kept.push(line);
    if (line === END) isOurs = false;
  }
  const block = lines.length === 0 ? [] : [BEGIN, ...lines, END];
  return [...kept, ...block].map((line) => `${line}\n`).join("");
}

/** Owner and mode stay. */
export function writeBlockOf(path: string, lines: readonly string[]): void {
  const seen = look(path);
  writeDurably(path, withBlock(readIfPresent(path) ?? "", lines), seen.kind === "file" ? seen.mode : 0o644);
  if (seen.kind === "file") chownSync(path, seen.uid, seen.gid);
}

/** Takes our lines out. A file that was `made` for them goes, unless it has others by now. */
export function removeBlock(path: string, made: boolean): void {
  const seen = look(path);
  if (seen.kind !== "file") return;
  if (made && withBlock(readIfPresent(path) ?? "", []) === "") removeDurably(path);
  else writeBlockOf(path, []);
}
