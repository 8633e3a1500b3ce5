import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "@bureau/cli/all-commands";
import { allCommands } from "@bureau/cli/command/help";
import { runCommand } from "@bureau/cli/command/run";
import { openTerminal, type Terminal } from "@bureau/cli/command/terminal";
import { readNamed, readNamedIfPresent, readNamedSecret, writeNamed } from "./named-file.ts";

let dir = "";
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "bnf-"));
  mkdirSync(join(dir, "folder"));
  writeFileSync(join(dir, "text"), "one\n");
  writeFileSync(join(dir, "empty"), "\n");
  writeFileSync(join(dir, "binary"), Buffer.from([0x61, 0xff]));
  writeFileSync(join(dir, "large"), Buffer.alloc(1_048_577, 0x61));
  symlinkSync("circle", join(dir, "circle"));
  writeFileSync(join(dir, "closed"), "x");
  chmodSync(join(dir, "closed"), 0);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const isRoot = process.getuid?.() === 0;
/** Files that cannot be read, and why. */
const bad: readonly (readonly [name: string, code: string, why: string])[] = [
  ["folder", "invalid-input", "it is a folder, not a file"],
  ["none", "not-found", "there is no such file or folder"],
  ["text/below", "not-found", "a part of the path is a file"],
  ["circle", "invalid-input", "its links form a loop"],
  ["n".repeat(300), "invalid-input", "the name is too long"],
  ["binary", "invalid-input", "it is not text in UTF-8"],
  ["large", "too-large", "more than 1048576 bytes"],
  ...(isRoot ? [] : ([["closed", "forbidden", "permission is denied"]] as const)),
];

describe("a file that a person names", () => {
  for (const [name, code, why] of bad)
    test(`${name.slice(0, 12)} is refused with its path and the reason`, () => {
      const path = join(dir, name);
      expect(() => readNamed(path, "the note")).toThrow(
        expect.objectContaining({
          code,
          message: expect.stringContaining(`Cannot read the note "${path}": `),
        }),
      );
      expect(() => readNamed(path, "the note")).toThrow(why);
    });

  test("is read unchanged; a secret loses its line end, and is never empty", () => {
    expect(readNamed(join(dir, "text"), "the note")).toBe("one\n");
    expect(readNamedSecret(join(dir, "text"), "the token")).toBe("one");
    expect(() => readNamedSecret(join(dir, "empty"), "the token")).toThrow("it is empty");
    expect(readNamedIfPresent(join(dir, "none"), "the note")).toBeUndefined();
    expect(() => readNamedIfPresent(join(dir, "folder"), "the note")).toThrow("it is a folder");
  });

  test("is written whole, or refused with its path and the reason", () => {
    writeNamed(join(dir, "new"), "text", 0o600, "the note");
    expect(readFileSync(join(dir, "new"), "utf8")).toBe("text");
    for (const [name, why] of [
      ["folder", "it is a folder"],
      ["none/new", "there is no such file or folder"],
      ["text/new", "a part of the path is a file"],
    ] as const)
      expect(() => writeNamed(join(dir, name), "text", 0o600, "the note")).toThrow(why);
  });
});

/** Further arguments a command needs before it reads the flag. */
const others: Readonly<Record<string, readonly string[]>> = {
  "agent create": ["a", "--machine", "b/fleet/f/machine/m"],
  "agent destroy": ["a", "--machine", "b/fleet/f/machine/m", "--purge"],
  "credential provision": ["a", "--machine", "b/fleet/f/machine/m", "--key", "K"],
  "credential rotate": ["a", "--machine", "b/fleet/f/machine/m", "--key", "K"],
  login: ["alice", "--homeserver", "http://127.0.0.1:1"],
  "machine provision": ["b/fleet/f/machine/m"],
  "machine decommission": ["b/fleet/f/machine/m"],
  "machine revoke": ["b/fleet/f/machine/m"],
  "machine doctor": [],
  "template publish": ["b/template:x"],
  "matrix setup": [],
  "matrix user create": ["alice"],
};
/** One flag a command is enough for the others: they share the code that reads these. */
const shared = ["credential-file", "token-file"];
const named = allCommands(root).flatMap(([path, { flags = {} }]) =>
  Object.entries(flags)
    .filter(([name, { value = "" }]) => /-file$|^file$|^output$/u.test(name) || value.endsWith("FILE"))
    .map(([name, { value = "" }]) => ({ path, name, value, pair: value.startsWith("NAME=") })),
);

describe("every flag that names a file", () => {
  beforeAll(() => {
    writeFileSync(
      join(dir, "credentials"),
      `MATRIX_HOMESERVER_URL=http://127.0.0.1:1
MATRIX_ADMIN_USER=@a:b
MATRIX_ADMIN_TOKEN=t
MATRIX_REGISTRATION_TOKEN=r
`,
    );
  });

  for (const { path, name, pair } of named) {
    const command = path.join(" ");
    const isShared = shared.includes(name) && command !== "agent create" && command !== "matrix setup";
    if (isShared || command === "machine deploy") continue;
    test(`bureau ${command} --${name}`, async () => {
      const said: string[] = [];
      const terminal: Terminal = {
        ...openTerminal({}),
        print: (line) => void said.push(line),
        say: (line) => void said.push(line),
        step: () => ({ update: () => {}, note: () => {}, done: () => {}, fail: () => {} }),
      };
      const folder = join(dir, "folder");
      const base = name === "credential-file" ? [] : ["--credential-file", join(dir, "credentials")];
      const takesBase = allCommands(root).find(([one]) => one.join(" ") === command)?.[1].flags?.[
        "credential-file"
      ];
      const code = await runCommand(
        root,
        [
          ...path,
          ...(others[command] ?? []),
          ...(takesBase === undefined ? [] : base),
          ...(command === "matrix setup" && name !== "registration-token-file"
            ? ["--registration-token-file", join(dir, "text")]
            : []),
          ...[`--${name}`, pair ? `KEY=${folder}` : folder],
        ],
        terminal,
        { BUREAU_HOME: join(dir, "home"), XDG_CONFIG_HOME: join(dir, "config"), HOME: dir },
      );
      expect(code).not.toBe(0);
      expect(said.join("\n")).toContain(folder);
      expect(said.join("\n")).toContain("it is a folder, not a file");
      expect(said.join("\n")).not.toMatch(/^ +at /mu);
    });
  }
});
