/**
 * What counts as a path of the Nix store, which means the same on every host once it is there. Strict: a path that only
 * begins like one is none, for Nix would neither fetch nor keep it.
 *
 * ```
 * /nix/store/<32 characters of a hash>-<name>      a store path
 *                                            /…    … within it
 * ```
 */
export const nixStore = "/nix/store";

const storePath = /^\/nix\/store\/[a-z0-9]{32}-[A-Za-z0-9+._?=-]+(?<within>\/.*)?$/su;

/** A whole store path: what Nix fetches and keeps. */
export function isStorePath(path: string): boolean {
  const match = storePath.exec(path);
  return match !== null && match.groups?.["within"] === undefined;
}

/** A store path, or something within one. `path` is a real one: links and `..` are not looked at. */
export const isInStore = (path: string): boolean => storePath.test(path);
