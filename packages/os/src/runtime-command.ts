/**
 * How to start the runtime. By default it reads these files in its working directory and the folders above:
 *
 * * `bunfig.toml` (also of the home folder): modules that it executes before the program;
 * * `.env` and its relatives: variables of the program's environment;
 * * `tsconfig.json`, `jsconfig.json`: other files in place of the program and of what it imports.
 *
 * An agent may write all of them into its workspace, where its operator types commands. So every start of one of our
 * programs has these arguments. `npm run check` refuses starts without them, and `test/surroundings.test.ts`
 * starts every program among such files.
 */
export const runtimeArguments: readonly string[] = [
  "--config=/dev/null",
  "--no-env-file",
  "--tsconfig-override=/dev/null",
];

/** The command that runs `program`, a file of JavaScript or TypeScript, on the runtime that runs this program. */
export const runtimeCommand = (program: string, ...args: readonly string[]): string[] => [
  process.execPath,
  ...runtimeArguments,
  program,
  ...args,
];

/** The same for a few lines of code in place of a file. */
export const evalCommand = (code: string, ...args: readonly string[]): string[] =>
  runtimeCommand("-e", code, ...args);

/** The program in the arguments of a process that the runtime runs: the first that is no argument of the runtime. */
export const programIn = (args: readonly string[]): string | undefined =>
  args.slice(1).find((word) => !word.startsWith("-"));
