/** The base URL of an upstream. Checked once, when it is set; requests only append to it. */
import { BureauError } from "@bureau/kit/errors";
import { socketOf } from "@bureau/schema/homeserver-address";

/** An http(s) URL without credentials, query or fragment; no trailing slash. */
export function parseBase(text: string): string {
  const url = URL.parse(text);
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:"))
    throw new BureauError(
      "invalid-input",
      `Invalid upstream "${withoutQuery(text)}": it must be an http or https URL`,
    );
  if (url.username !== "" || url.password !== "")
    throw new BureauError(
      "invalid-input",
      `Invalid upstream for "${url.host}": it contains a user or password`,
      {
        hint: "inject it with inject_headers",
      },
    );
  if (url.search !== "" || url.hash !== "")
    throw new BureauError(
      "invalid-input",
      `Invalid upstream "${withoutQuery(text)}": it has a query or a fragment`,
    );
  return url.href.replace(/\/+$/u, "");
}

/** A homeserver's address: as {@link parseBase}, or `unix:/PATH`. */
export const parseHomeserver = (text: string): string =>
  socketOf(text) === undefined ? parseBase(text) : text;

/** For errors and logs: a query often contains a key. */
const withoutQuery = (text: string): string => text.replace(/[?#].*$/u, "?…");
