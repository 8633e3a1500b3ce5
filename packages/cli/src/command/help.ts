/** Help pages, made from the command tree. */
import { type Command, type CommandGroup, type Flag, isGroup, shownFlags } from "./command.ts";

export function groupHelp(path: readonly string[], group: CommandGroup): string {
  const lines = [group.summary, "", `Usage: ${path.join(" ")} <command>`, "", "Commands:"];
  lines.push(...columns(group.commands.map((node) => [node.name, node.summary])));
  if (group.examples !== undefined && group.examples.length > 0)
    lines.push("", "Examples:", ...group.examples.map((example) => `  ${example}`));
  lines.push("", `Run "${path.join(" ")} <command> --help" for more about one.`);
  return lines.join("\n");
}

export function commandHelp(path: readonly string[], command: Command): string {
  const positionals = command.positionals ?? [];
  const usage = positionals.map((item) => {
    const name = item.rest === true ? `${item.name}…` : item.name;
    return item.optional === true ? `[${name}]` : `<${name}>`;
  });
  const lines = [command.summary, "", `Usage: ${[...path, ...usage, "[flags]"].join(" ")}`];
  if (command.details !== undefined) lines.push("", command.details);
  if (positionals.length > 0)
    lines.push("", "Arguments:", ...columns(positionals.map((item) => [item.name, item.summary])));
  lines.push(
    "",
    "Flags:",
    ...columns(shownFlags(command).map(([name, flag]) => [flagUsage(name, flag), flag.summary])),
  );
  lines.push("", command.examples.length === 1 ? "Example:" : "Examples:");
  lines.push(...command.examples.map((example) => `  ${example}`));
  return lines.join("\n");
}

function flagUsage(name: string, flag: Flag): string {
  const short = flag.short === undefined ? "" : `-${flag.short}, `;
  const value = flag.type === "string" ? ` ${flag.value ?? "VALUE"}` : "";
  return `${short}--${name}${value}${flag.multiple === true ? " …" : ""}`;
}

function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`.trimEnd());
}

/** Every command below a node, with its path. */
export function allCommands(
  node: Command | CommandGroup,
  path: readonly string[] = [],
): [readonly string[], Command][] {
  if (!isGroup(node)) return [[path, node]];
  return node.commands.flatMap((child) => allCommands(child, [...path, child.name]));
}
