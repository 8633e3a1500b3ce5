/**
 * Carries a sandbox's connections to the hosts in its template's `egress`, and to no others: CONNECT for TLS and anything
 * else, absolute targets for plain HTTP. Injects nothing and reads nothing behind the head of the first request.
 *
 * A name is resolved once for each connection. Every address it resolves to is checked, and the connection goes to one of
 * these, so that a second answer of the name's owner has no effect. The kernel's answer to "is this my own address" counts,
 * too: a public address of this host would reach services that its firewall hides.
 */
import { BureauError, isBureauError, messageOf } from "@bureau/kit/errors";
import type { Log } from "@bureau/kit/log";
import { type Bridge, type Opening, type Route, startBridge } from "@bureau/os/bridge";
import { type EgressRule, egressRules, isListed, mayAsk } from "@bureau/schema/egress-rules";
import { type Address, isPublic, parseAddress } from "@bureau/schema/ip-address";
import { inOwnFolder } from "./in-own-folder.ts";
import { statusOf } from "./refusal.ts";
import { HEAD_BYTES_MAX, parseTunnelRequest, type TunnelRequest } from "./tunnel-request.ts";

/** As the proxy's other sockets. */
const SOCKET_MODE = 0o660;

export type Resolve = (name: string) => Promise<readonly string[]>;

export type TunnelOptions = {
  readonly socket: string;
  readonly hosts: readonly string[];
  readonly log: Log;
  readonly resolve?: Resolve;
  /** Called for each request that the list does not permit. */
  readonly onRefused?: (refused: { readonly target: string; readonly reason: string }) => void;
};

/** Listens until disposed. @throws BureauError when it cannot */
export async function startTunnel(options: TunnelOptions): Promise<Bridge> {
  const rules = egressRules(options.hosts);
  const resolve = options.resolve ?? resolveByHost;
  return await inOwnFolder(options.socket, (path) =>
    startBridge({
      listen: { kind: "unix", path },
      mode: SOCKET_MODE,
      connect: { opening: () => openingOf(rules, resolve, options) },
      onProblem: (problem) =>
        options.log.debug("tunnel.failed", "cannot carry a connection", { error: problem }),
    }),
  );
}

const resolveByHost: Resolve = async (name) => (await Bun.dns.lookup(name)).map(({ address }) => address);

function openingOf(rules: readonly EgressRule[], resolve: Resolve, options: TunnelOptions): Opening {
  let received = Buffer.alloc(0);
  return {
    read(bytes) {
      received = Buffer.concat([received, bytes]);
      const end = received.indexOf("\r\n\r\n");
      if (end < 0 && received.length <= HEAD_BYTES_MAX) return undefined;
      if (end < 0 || end > HEAD_BYTES_MAX)
        throw new BureauError(
          "too-large",
          `Cannot carry this request: its head has more than ${HEAD_BYTES_MAX} bytes`,
        );
      const request = parseTunnelRequest(received.toString("latin1", 0, end));
      return routeOf(request, received.subarray(end + 4), rules, resolve);
    },
    refuse(error) {
      const reason = isBureauError(error)
        ? error
        : new BureauError("failed", "Cannot carry this request: the proxy failed");
      if (isBureauError(error) && error.code === "forbidden") {
        options.log.info("egress.refused", "refused a connection", { reason: error.message });
        options.onRefused?.({
          target: error instanceof EgressRefused ? error.target : "",
          reason: error.message,
        });
      } else if (!isBureauError(error))
        options.log.error("tunnel.failed", "cannot carry a connection", { error: messageOf(error) });
      return answerOf(reason);
    },
  };
}

class EgressRefused extends BureauError {
  constructor(
    readonly target: string,
    why: string,
  ) {
    super("forbidden", `Cannot reach ${target}: ${why}`, {
      hint: "list it in egress of the template, if this principal should reach it",
    });
  }
}

/** @throws BureauError `forbidden` when the list does not permit it, `unavailable` when the name does not resolve */
async function routeOf(
  { host, port, head }: TunnelRequest,
  rest: Uint8Array,
  rules: readonly EgressRule[],
  resolve: Resolve,
): Promise<Route> {
  const target = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
  if (!mayAsk(rules, host, port)) throw new EgressRefused(target, "it is not in the template's egress");
  const address = await addressOf(host, port, target, rules, resolve);
  return {
    target: { kind: "tcp", host: address, port },
    toTarget: head === undefined ? rest : Buffer.concat([Buffer.from(head, "latin1"), rest]),
    toClient: Buffer.from(head === undefined ? "HTTP/1.1 200 Connection Established\r\n\r\n" : ""),
  };
}

async function addressOf(
  host: string,
  port: number,
  target: string,
  rules: readonly EgressRule[],
  resolve: Resolve,
): Promise<string> {
  const literal = parseAddress(host);
  if (literal !== undefined) return host;
  let found: readonly string[];
  try {
    found = await resolve(host);
  } catch {
    found = [];
  }
  const own = ownAddresses();
  for (const text of found) {
    const address = parseAddress(text);
    if (address === undefined)
      throw new EgressRefused(target, `it resolves to "${text}", which is no usual address`);
    if (isListed(rules, address, port)) continue;
    if (!isPublic(address))
      throw new EgressRefused(
        target,
        `it resolves to ${text}, which is not a public address, and the list does not have it`,
      );
    if (own.some((one) => one.bits === address.bits && one.value === address.value))
      throw new EgressRefused(target, `it resolves to ${text}, which is this host`);
  }
  const [first] = found;
  if (first === undefined)
    throw new BureauError("unavailable", `Cannot reach ${target}: the name has no address`);
  return first;
}

/** node:os is loaded here, because most proxies carry to no hosts. */
const ownAddresses = (): Address[] =>
  Object.values(process.getBuiltinModule("node:os").networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .map(({ address }) => parseAddress(address.replace(/%.*$/u, "")))
    .filter((address) => address !== undefined);

/** The connection ends with it. Clients show the body of a refused CONNECT, or the status line alone: both have the reason. */
function answerOf(error: BureauError): Uint8Array {
  const text = error.hint === "" ? error.message : `${error.message} (${error.hint})`;
  const body = Buffer.from(`${text}\n`);
  const phrase = error.message.replaceAll(/[^\x20-\x7e]/gu, "?");
  return Buffer.concat([
    Buffer.from(
      `HTTP/1.1 ${statusOf(error.code)} ${phrase}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n`,
      "latin1",
    ),
    body,
  ]);
}
