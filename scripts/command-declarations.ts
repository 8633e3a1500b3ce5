/**
 * Puts the declarations of `bureau`'s commands, and the help pages that are made from them, into its bundles as data. The
 * modules of `packages/cli/src` import every command to collect them; with the data in their place, help and completion
 * load no implementation.
 */
const MODULE = /packages\/cli\/src\/(?:declarations|help-pages)\.ts$/u;

export const commandDeclarations: Bun.BunPlugin = {
  name: "command-declarations",
  setup(build) {
    build.onLoad({ filter: MODULE }, async ({ path }) => {
      const exported = Object.entries((await import(path)) as Readonly<Record<string, unknown>>);
      const lines = exported.map(([name, value]) => `export const ${name} = ${JSON.stringify(value)};`);
      return { contents: lines.join("\n"), loader: "js" };
    });
  },
};
