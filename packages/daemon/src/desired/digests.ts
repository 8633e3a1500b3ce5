/** The digest of a sandbox, in parts that can be compared separately. */

/**
 * The launcher keeps one opaque digest a sandbox. It has two parts, so that the daemon sees which part of a running
 * sandbox changed: a rotated credential restarts a sandbox, but does not run completed work again.
 */
export const specDigest = (structure: string, credentials: string): string => `${structure}.${credentials}`;
/** The part of {@link specDigest} for the credentials. */
export const credentialsOf = (digest: string): string => digest.slice(digest.indexOf(".") + 1);
/** The part of {@link specDigest} for the program, without its credentials. */
export const structureOf = (digest: string): string => digest.slice(0, digest.indexOf("."));
