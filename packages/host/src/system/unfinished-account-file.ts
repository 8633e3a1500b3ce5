/** Files that killed account tools leave in /etc. */

/**
 * Whether systemd's or shadow's tools left this file when they were killed: `.#group213e6be1e55b83b3`; `group+`; and
 * `group.lock` and `group.1234`, which hold only a pid.
 */
export function isUnfinished(name: string, text: () => string | undefined): boolean {
  if (/^\.#(?:passwd|g?shadow|group)[0-9a-f]{16}$/.test(name)) return true;
  const suffix = /^(?:passwd|g?shadow|group|sub[ug]id)(\+|\.lock|\.\d+)$/.exec(name)?.[1];
  return suffix === "+" || (suffix !== undefined && /^\d*\0?$/.test(text() ?? "-"));
}
