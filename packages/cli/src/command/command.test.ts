import { describe, expect, test } from "bun:test";
import { BureauError } from "@bureau/kit/errors";
import { editDistance, instead, nearest } from "@bureau/kit/nearest";
import { InputError } from "@bureau/schema/parse";
import { RefError } from "@bureau/schema/refs";
import { root } from "../all-commands.ts";
import { type Command, type CommandGroup, isGroup, UsageError } from "./command.ts";
import { allCommands, commandHelp } from "./help.ts";
import { runCommand } from "./run.ts";
import type { Terminal } from "./terminal.ts";
import { topLevelNames } from "./top-level-names.ts";

/** A terminal that records its output. */
function recorder(): Terminal & { out: string[]; err: string[] } {
  const out: string[] = [];
  const err: string[] = [];
  const plain = (text: string): string => text;
  return {
    out,
    err,
    print: (line) => void out.push(line),
    json: (value) => void out.push(JSON.stringify(value)),
    say: (line) => void err.push(line),
    note: (line) => void err.push(line),
    table: (heading, rows) => void out.push([heading, ...rows].map((row) => row.join("|")).join("\n")),
    step: () => ({ update: () => {}, note: () => {}, done: () => {}, fail: () => {} }),
    style: { bold: plain, dim: plain, red: plain, green: plain },
  };
}

const echo: Command = {
  name: "echo",
  summary: "Say it",
  positionals: [{ name: "words", summary: "what", rest: true }],
  flags: {
    loud: { type: "boolean", summary: "loudly" },
    tag: { type: "string", multiple: true, summary: "tags" },
  },
  examples: ["tool echo hello"],
  load: () =>
    Promise.resolve({
      run: async ({ args, flags, terminal }) => {
        terminal.json({ args, flags });
        return 3;
      },
    }),
};
const tree: CommandGroup = {
  name: "tool",
  summary: "A tool.",
  commands: [echo, { name: "group", summary: "More", commands: [{ ...echo, name: "inner" }] }],
};

describe("running a command", () => {
  test("passes arguments and flags on and exits with the code it returns", async () => {
    const terminal = recorder();
    expect(await runCommand(tree, ["echo", "a", "--loud", "--tag", "x", "--tag=y", "b"], terminal, {})).toBe(
      3,
    );
    expect(JSON.parse(terminal.out[0] ?? "")).toEqual({
      args: { words: ["a", "b"] },
      flags: { loud: true, tag: ["x", "y"], help: false },
    });
  });

  test("an unknown command exits 2 and suggests the nearest one, at every level", async () => {
    for (const [argv, hint] of [
      [["ecko"], 'did you mean "tool echo"?'],
      [["group", "iner"], 'did you mean "tool group inner"?'],
      [["help", "ecko"], 'did you mean "tool echo"?'],
    ] as const) {
      const terminal = recorder();
      expect(await runCommand(tree, argv, terminal, {})).toBe(2);
      expect(terminal.err.join("\n")).toContain(hint);
    }
  });

  test("an unknown flag exits 2 and suggests the nearest one", async () => {
    const terminal = recorder();
    expect(await runCommand(tree, ["echo", "x", "--lout"], terminal, {})).toBe(2);
    expect(terminal.err.join("\n")).toContain("did you mean --loud?");
  });

  test("a missing argument exits 2 and is named", async () => {
    const terminal = recorder();
    expect(await runCommand(tree, ["echo"], terminal, {})).toBe(2);
    expect(terminal.err.join("\n")).toContain("<words>");
  });

  test("an error with --json is JSON on standard output as well", async () => {
    const failing: CommandGroup = {
      ...tree,
      commands: [
        {
          ...echo,
          flags: { json: { type: "boolean", summary: "" } },
          load: () => Promise.reject(new Error("boom")),
        },
      ],
    };
    const terminal = recorder();
    expect(await runCommand(failing, ["echo", "x", "--json"], terminal, {})).toBe(1);
    expect(JSON.parse(terminal.out[0] ?? "")).toEqual({ ok: false, error: "boom", code: "bug" });
  });

  test("arguments after -- are text, not flags", async () => {
    const terminal = recorder();
    expect(await runCommand(tree, ["echo", "--", "--help", "--json", "-h"], terminal, {})).toBe(3);
    expect(JSON.parse(terminal.out[0] ?? "")).toMatchObject({ args: { words: ["--help", "--json", "-h"] } });
  });

  test("every failure with --json is one JSON object on standard output, with a code", async () => {
    const fail = async (error: unknown): Promise<unknown> => {
      const command: Command = {
        ...echo,
        flags: { json: { type: "boolean", summary: "" } },
        load: () => Promise.reject(error),
      };
      const terminal = recorder();
      const code = await runCommand({ ...tree, commands: [command] }, ["echo", "x", "--json"], terminal, {});
      expect(terminal.out).toHaveLength(1);
      return { exit: code, ...(JSON.parse(terminal.out[0] ?? "") as object) };
    };
    const system = Object.assign(new Error("EACCES"), { code: "EACCES", syscall: "open", path: "/x" });
    expect(await fail(new BureauError("conflict", "no", { hint: "do" }))).toEqual({
      exit: 1,
      ok: false,
      error: "no",
      code: "conflict",
      hint: "do",
    });
    expect(await fail(new UsageError("no", "do"))).toMatchObject({ exit: 2, code: "invalid-input" });
    expect(await fail(new RefError("fleet", "x", "no"))).toMatchObject({ exit: 1, code: "invalid-input" });
    expect(await fail(new InputError("x", ["no"]))).toMatchObject({ exit: 1, code: "invalid-input" });
    expect(await fail(system)).toMatchObject({
      exit: 1,
      code: "forbidden",
      error: 'Cannot open "/x": permission is denied',
    });
    const terminal = recorder();
    expect(await runCommand(tree, ["ecko", "--json"], terminal, {})).toBe(2);
    expect(JSON.parse(terminal.out[0] ?? "")).toMatchObject({ ok: false, code: "invalid-input" });
  });

  test("shows help for the tree, a group and a command", async () => {
    for (const [argv, text] of [
      [[], "Commands:"],
      [["group", "--help"], "tool group <command>"],
      [["help", "echo"], "Usage: tool echo"],
      [["help", "group", "inner"], "Usage: tool group inner"],
      [["group", "help", "inner"], "Usage: tool group inner"],
      [["echo", "--help"], "tool echo hello"],
    ] as const) {
      const terminal = recorder();
      expect(await runCommand(tree, argv, terminal, {})).toBe(0);
      expect(terminal.out.join("\n")).toContain(text);
    }
  });
});

describe("the command tree of bureau", () => {
  const commands = allCommands(root);

  test("every command has an example that begins with its own path, and a loadable implementation", async () => {
    for (const [path, command] of commands) {
      expect(command.examples.length).toBeGreaterThan(0);
      for (const example of command.examples) expect(example).toContain(["bureau", ...path].join(" "));
      expect(typeof (await command.load()).run).toBe("function");
    }
  });

  test("every command has --json, except the one that prints a script", () => {
    const without = commands.filter(([, { flags = {} }]) => flags["json"] === undefined);
    expect(without.map(([path]) => path.join(" "))).toEqual(["completion"]);
  });

  test("every help page names each flag and argument, and describes it", () => {
    for (const [path, command] of commands) {
      const help = commandHelp(["bureau", ...path], command);
      for (const [flag, { hidden, summary }] of Object.entries(command.flags ?? {})) {
        expect(summary).toMatch(/\S.{6,}/u);
        if (hidden !== true) expect(help).toContain(`--${flag}`);
      }
      for (const { name, summary } of command.positionals ?? []) {
        expect(help).toContain(name);
        expect(summary).not.toBe("");
      }
    }
  });

  test("hides flags that only the program itself sets from help, completion and suggestions", async () => {
    const hidden = commands.flatMap(([path, { flags = {} }]) =>
      Object.entries(flags).flatMap(([name, flag]) =>
        flag.hidden === true ? [`${path.join(" ")} --${name}`] : [],
      ),
    );
    expect(hidden).toEqual([
      "machine doctor --elevated",
      "machine doctor --called-as",
      "machine doctor --plan-shown",
    ]);
    const help = recorder();
    await runCommand(root, ["machine", "doctor", "--help"], help, {});
    const wrong = recorder();
    expect(await runCommand(root, ["machine", "doctor", "--elevate"], wrong, {})).toBe(2);
    const shown = [...help.out, ...wrong.err];
    for (const shell of ["bash", "zsh", "fish"]) {
      const script = recorder();
      expect(await runCommand(root, ["completion", shell], script, {})).toBe(0);
      expect(script.out.join("\n")).toContain("undo");
      shown.push(...script.out);
    }
    for (const flag of ["elevated", "called-as", "plan-shown"]) expect(shown.join("\n")).not.toContain(flag);
  });

  test("hints recognize the first words of every command", () => {
    expect([...topLevelNames]).toEqual(root.commands.map(({ name }) => name));
  });

  test("no two siblings share a name", () => {
    const check = (group: CommandGroup): void => {
      const names = group.commands.map((node) => node.name);
      expect(new Set(names).size).toBe(names.length);
      for (const node of group.commands) if (isGroup(node)) check(node);
    };
    check(root);
  });
});

describe("the nearest name", () => {
  test("counts insertions, deletions, replacements and swaps", () => {
    expect(editDistance("agent", "agent")).toBe(0);
    expect(editDistance("agnet", "agent")).toBe(1);
    expect(editDistance("", "abc")).toBe(3);
    expect(editDistance("stat", "status")).toBe(2);
  });

  test("is undefined when nothing is close", () => {
    expect(nearest("xyzzy", ["agent", "machine"])).toBeUndefined();
    expect(nearest("machne", ["agent", "machine"])).toBe("machine");
    expect(nearest("stat", ["start", "status"])).toBe("start");
  });

  test("lists existing names for an unknown name", () => {
    const say = { are: "machines", list: "bureau machine list", none: "make one" };
    expect(instead("gpu", ["gpt", "web"], say)).toBe('did you mean "gpt"? (bureau machine list)');
    expect(instead("xyzzy", ["web", "gpu"], say)).toBe("machines: gpu, web");
    expect(instead("xyzzy", [], say)).toBe("make one");
    expect(instead("web", ["web", "gpu"], say)).toBe("machines: gpu, web");
    expect(instead("agent/nope", ["agent/demo"], say)).toBe("machines: agent/demo");
    const many = Array.from({ length: 9 }, (_, n) => `machine-${n}`);
    expect(instead("xyzzy", many, say)).toBe("bureau machine list");
  });
});
