/** Finds in our own texts where they name a command of `bureau`. */
import { topLevelNames } from "./top-level-names.ts";

const words = topLevelNames.join("|");
const mention = new RegExp(`(?<![\\w./-])(sudo )?bureau (?=(?:${words})\\b|--help|<command>)`, "g");

/** `text` with another command in place of every `bureau …` and `sudo bureau …` in it. */
export const replaceMentions = (
  text: string,
  by: { readonly plain: () => string; readonly asRoot: () => string },
): string =>
  text.replace(mention, (_, sudo: string | undefined) => `${sudo === undefined ? by.plain() : by.asRoot()} `);
