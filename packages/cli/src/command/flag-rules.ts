/**
 * No flag is ignored. These rules refuse invalid combinations from the flags' declarations in the tree: a repeated flag, an
 * empty value, a flag without the flag it needs, or beside a flag that it excludes.
 */
import { type Flag, UsageError } from "./command.ts";

/** `given` holds the name of each flag as often as it was typed. @throws UsageError */
export function checkFlags(
  flags: Readonly<Record<string, Flag>>,
  given: readonly string[],
  values: Readonly<Record<string, unknown>>,
  command: string,
): void {
  const refuse = (why: string): never => {
    throw new UsageError(`"${command}": ${why}`, `${command} --help`);
  };
  const isGiven = (name: string): boolean => given.includes(name);
  for (const [name, flag] of Object.entries(flags).filter(([name]) => isGiven(name))) {
    if (flag.type === "string" && flag.multiple !== true && given.indexOf(name) !== given.lastIndexOf(name))
      refuse(`--${name} is given twice`);
    if (flag.mayBeEmpty !== true && [values[name]].flat().includes(""))
      refuse(`--${name} has an empty value`);
    if (flag.needs?.some(isGiven) === false)
      refuse(`--${name} does nothing without ${flag.needs.map((other) => `--${other}`).join(" or ")}`);
    const other = flag.excludes?.find(isGiven);
    if (other !== undefined) refuse(`--${name} and --${other} exclude each other`);
  }
}
