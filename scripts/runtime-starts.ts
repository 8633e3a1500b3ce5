/** Finds starts of the runtime that lack its arguments (`packages/os/src/runtime-command.ts`). Pure; see its use in check.ts. */
import { runtimeArguments as ofKit } from "../packages/os/src/runtime-command.ts";
import type { Violation } from "./dependency-arrows.ts";
import { runtimeArguments as ofScripts } from "./find-bun.mjs";

/** Where the arguments are made, where examples of starts without them stand, and what runs without Bureau. */
const exempt = /^(?:packages\/os\/src\/runtime-command\.ts|scripts\/check\.test\.ts|findings\/.*)$/u;

/** In a line of shell: the runtime, then at once the program. */
const inShell = /(?:runtime\/bun|\$\{?(?:bun|runtime)\}?)["'`]?\s+["'`]?[$/.\w]/u;
/** In a list of arguments: the runtime, then at once a word or the path of a program. */
const inList = /(?:\[(?:bun|runtime|runtimeOf\([^()]*\)),\s*|spawnSync\(bun,\s*\[)(?:["'`]|join\()/u;
/** The runtime's own path, except where it is only read, or named beside its arguments. */
const ownPath = /(?<!Bun\.file\(|copyFileSync\(|execve\()process\.execPath/u;

/** Checks one text file for starts without the arguments. */
export function checkRuntimeStarts(path: string, text: string): Violation[] {
  if (exempt.test(path) || !/(?:\.(?:ts|mjs|sh|yml|nix|json)|^bureau|\.ci\/run)$/u.test(path)) return [];
  return text.split("\n").flatMap((line, index) => {
    if (/^\s*(?:\*|\/\/|\/\*\*|#)/u.test(line)) return [];
    const isolated = line.includes("$isolated") || line.includes("runtimeArguments");
    const starts = ownPath.test(line) || (!isolated && (inShell.test(line) || inList.test(line)));
    return starts
      ? [
          `${path}:${index + 1}: starts the runtime without its arguments; use runtimeCommand or runtimeArguments`,
        ]
      : [];
  });
}

/** Files that cannot import the arguments must contain the same ones. */
export function checkRuntimeArguments(checkout: string): Violation[] {
  const line = ofKit.join(" ");
  return [
    ...(ofScripts.join(" ") === line ? [] : [`scripts/find-bun.mjs: runtimeArguments are not ${line}`]),
    ...(checkout.includes(`isolated="${line}"\n`) ? [] : [`bureau: isolated is not "${line}"`]),
  ];
}
