import { expect, test } from "bun:test";
import { findCommand } from "./command/find-command.ts";
import { helpPages } from "./help-pages.ts";
import { readCommandFiles } from "./read-command-files.ts";
import { isReadCommand } from "./read-commands.ts";

test("the small program runs exactly the commands that it has", () => {
  for (const name of Object.keys(readCommandFiles)) {
    const argv = [...name.split(" "), "--json"];
    expect(findCommand(helpPages, argv, ({ pages }) => pages).kind).toBe("command");
    expect(isReadCommand(argv)).toBe(true);
  }
});

test.each([
  [["agent", "create", "demo"]],
  [["agent", "lst"]],
  [["agent"]],
  [["--home", "x", "agent", "list"]],
  [[]],
])("leaves %j to the whole program", (argv) => {
  expect(isReadCommand(argv)).toBe(false);
});
