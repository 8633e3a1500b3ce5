/**
 * Puts the declarations of `bureau`'s commands into its bundle as data. `packages/cli/src/declarations.ts` imports every
 * command to collect them; with the data in its place, help and completion load no implementation.
 */
const MODULE = /packages\/cli\/src\/declarations\.ts$/u;

export const commandDeclarations: Bun.BunPlugin = {
  name: "command-declarations",
  setup(build) {
    build.onLoad({ filter: MODULE }, async ({ path }) => {
      const { declarations } = (await import(path)) as typeof import("../packages/cli/src/declarations.ts");
      return { contents: `export const declarations = ${JSON.stringify(declarations)};`, loader: "js" };
    });
  },
};
