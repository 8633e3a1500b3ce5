/** The digest of a sandbox, in parts that can be told apart again. */

/**
 * The launcher keeps one opaque digest a sandbox. It has two parts, so that what runs can still be told apart by what
 * changed: a rotated credential restarts a sandbox, but it is no reason to run completed work again.
 */
export const specDigest = (structure: string, credentials: string): string => `${structure}.${credentials}`;
/** The part of {@link specDigest} that is about the credentials. */
export const credentialsOf = (digest: string): string => digest.slice(digest.indexOf(".") + 1);
/** The part of {@link specDigest} that is about the program and not about its credentials. */
export const structureOf = (digest: string): string => digest.slice(0, digest.indexOf("."));
