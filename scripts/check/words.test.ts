import { describe, expect, test } from "bun:test";
import { readWords, wordCheck } from "./words.ts";

const glossary = [
  "| word | meaning | we do not say |",
  "|---|---|---|",
  "| sandbox | an instance | terminals |",
  "| build | programs | `host environment`, programs dir |",
  "| launcher | see above | |",
  "",
  "| other | table |",
  "|---|---|",
  "| nobody | anything |",
].join("\n");
const phrases = "| instead of | write |\n|---|---|\n| goes on | continues |\n";
const words = [...readWords(glossary), ...readWords(phrases)];
const check = wordCheck(words);
const found = (text: string, path = "docs/a.md") =>
  check(path, text).map((one) => one.slice(path.length + 1));

describe("words", () => {
  test("come from the glossary and from the phrases, and from no other table", () => {
    expect(words.map(({ avoid, say }) => `${avoid} → ${say}`)).toEqual([
      "terminals → sandbox",
      "host environment → build",
      "programs dir → build",
      "goes on → continues",
    ]);
  });

  test("are found in prose, over the end of a line, and in identifiers", () => {
    expect(found("a\nThe Terminals end.")).toEqual(['2: say sandbox instead of "terminals"']);
    expect(found(" * it goes\n * on until")).toEqual(['1: say continues instead of "goes on"']);
    expect(found("const programsDir = 1;", "a.ts")).toEqual(['1: say build instead of "programs dir"']);
    expect(found("host-environment hostEnvironment")).toHaveLength(2);
  });

  test("are not found as parts of words, in names a wire gave, and in the tables themselves", () => {
    expect(found("subterminals cargoes on")).toEqual([]);
    expect(found("bureau-terminals.service --external-terminals host_environment_path programs_dir")).toEqual(
      [],
    );
    expect(found(glossary, "ARCHITECTURE.md")).toEqual([]);
  });
});
