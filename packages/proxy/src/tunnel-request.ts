/**
 * The head of a request to a forward proxy: `CONNECT host:port`, or an absolute `http://` target (RFC 9110, section
 * 9.3.6; RFC 9112, section 3.2.2). Refuses every spelling that two programs could parse differently.
 */
import { BureauError } from "@bureau/kit/errors";
import { hostName } from "@bureau/schema/egress-rules";
import { parseAddress } from "@bureau/schema/ip-address";

export type TunnelRequest = {
  /** A name in lower case, or an address without brackets. */
  readonly host: string;
  readonly port: number;
  /** What to send to the host first. Undefined for CONNECT: the client speaks next. */
  readonly head: string | undefined;
};

/** As our HTTP server accepts. */
export const HEAD_BYTES_MAX = 16 * 1024;

/** Headers for the proxy itself, and those that {@link requestOf} writes. */
const ownHeaders: ReadonlySet<string> = new Set([
  "host",
  "connection",
  "proxy-connection",
  "proxy-authorization",
  "keep-alive",
  "upgrade",
  "te",
  "trailer",
]);

/** `head`: up to and without the empty line, in Latin-1. @throws BureauError `invalid-input` */
export function parseTunnelRequest(head: string): TunnelRequest {
  const [line = "", ...headers] = head.split("\r\n");
  const match = /^([A-Z]{1,20}) (\S+) HTTP\/1\.[01]$/u.exec(line);
  if (match === null) throw malformed("its request line is not one of HTTP/1.1");
  const [, method = "", target = ""] = match;
  if (head.includes("\0")) throw malformed("it has a NUL");
  for (const header of headers)
    if (!/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n]*$/u.test(header)) throw malformed("a header is malformed");
  if (method === "CONNECT") {
    const { host, port } = authorityOf(target);
    if (port === undefined) throw malformed("CONNECT needs HOST:PORT");
    return { host, port, head: undefined };
  }
  const absolute = /^http:\/\/([^/?#\\]+)(\/[^#\s]*|\?[^#\s]*)?$/iu.exec(target);
  if (absolute === null)
    throw malformed("this socket takes CONNECT HOST:PORT and http://HOST/PATH; upstreams are on proxy.sock");
  const { host, port = 80 } = authorityOf(absolute[1] ?? "");
  const path = absolute[2] ?? "/";
  return {
    host,
    port,
    head: requestOf(
      `${method} ${path.startsWith("?") ? "/" : ""}${path} HTTP/1.1`,
      absolute[1] ?? "",
      headers,
    ),
  };
}

/** The request in the form for an origin server, which is to close the connection afterwards: it has one target. */
function requestOf(line: string, authority: string, headers: readonly string[]): string {
  const upgrade = headers.some((header) => /^upgrade:\s*websocket\s*$/iu.test(header));
  const kept = headers.filter(
    (header) => !ownHeaders.has(header.slice(0, header.indexOf(":")).toLowerCase()),
  );
  const own = upgrade ? ["Connection: Upgrade", "Upgrade: websocket"] : ["Connection: close"];
  return `${[line, `Host: ${authority}`, ...kept, ...own].join("\r\n")}\r\n\r\n`;
}

function authorityOf(text: string): { host: string; port: number | undefined } {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:[\]@]+))(?::(\d{1,5}))?$/iu.exec(text);
  const [, bracketed, plain = "", portText] = match ?? [];
  const port = portText === undefined ? undefined : Number(portText);
  if (match === null || (port !== undefined && (port < 1 || port > 65_535)))
    throw malformed("its host is malformed");
  const host = bracketed ?? plain;
  if (parseAddress(host) !== undefined) return { host, port };
  const name = bracketed === undefined ? hostName(plain) : undefined;
  if (name === undefined) throw malformed("its host is neither a name nor an address in its usual spelling");
  return { host: name, port };
}

const malformed = (reason: string): BureauError =>
  new BureauError("invalid-input", `Cannot carry this request: ${reason}`);
