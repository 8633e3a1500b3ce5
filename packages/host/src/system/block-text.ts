/** Lines of ours between two marks in a text of others. */

const BEGIN = "# Bureau: written by bureau machine doctor --fix";
const END = "# Bureau: end";

/** The text with these lines of ours at its end, in place of those it has; without any when `lines` is empty. */
export function withBlock(text: string, lines: readonly string[]): string {
  const kept: string[] = [];
  let isOurs = false;
  for (const line of text === "" ? [] : text.replace(/\n$/, "").split("\n")) {
    if (line === BEGIN) isOurs = true;
    if (!isOurs) kept.push(line);
    if (line === END) isOurs = false;
  }
  const ours = lines.length === 0 ? [] : [BEGIN, ...lines, END];
  return [...kept, ...ours].map((line) => `${line}\n`).join("");
}
