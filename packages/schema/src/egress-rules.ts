/**
 * The hosts that a template lets its programs reach through their proxy: `egress` of a template. Pure.
 *
 * ```
 * api.example.com          that name, ports 80 and 443
 * *.example.com:8443       every name below it, that port
 * 10.1.0.0/16:5432         those addresses, also those of names that are listed and resolve there
 * [fd00::1]:443            IPv6 in brackets
 * ```
 *
 * Without a list no host can be reached. A private address counts only when the list names it or its range: a name alone
 * is not enough, because its owner decides where it points.
 */
import {
  type Address,
  type AddressRange,
  coversRange,
  inRange,
  parseAddress,
  parseRange,
} from "./ip-address.ts";

type HostRule =
  | { readonly kind: "name"; readonly name: string }
  /** Every name that ends in `suffix`, which begins with a dot. */
  | { readonly kind: "below"; readonly suffix: string }
  | { readonly kind: "range"; readonly range: AddressRange; readonly text: string };
export type EgressRule = { readonly host: HostRule; readonly ports: readonly number[] };

const DEFAULT_PORTS = [80, 443] as const;
/** RFC 1035; labels of letters, digits, hyphens and, as in use, underscores. */
const NAME =
  /^(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/u;

/**
 * The name of a host in lower case without a final dot. Undefined for what is no name, and for names whose last label
 * is a number: some programs read those as addresses.
 */
export function hostName(text: string): string | undefined {
  const name = text.toLowerCase().replace(/\.$/u, "");
  return NAME.test(name) && !/(?:^|\.)(?:\d+|0x[0-9a-f]*)$/u.test(name) ? name : undefined;
}

/** @returns the rule, or what is wrong with the entry */
export function parseEgressRule(entry: string): EgressRule | string {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]+))(?::(\d{1,5}))?$/u.exec(entry);
  if (match === null) return "it must be HOST or HOST:PORT, with IPv6 addresses in brackets";
  const [, bracketed, plain = "", portText] = match;
  const port = portText === undefined ? undefined : Number(portText);
  if (port !== undefined && (port < 1 || port > 65_535)) return "its port must be 1 to 65535";
  const host = bracketed === undefined ? hostRuleOf(plain) : rangeRuleOf(bracketed);
  if (host === undefined) return "its host must be a name, *.NAME, an address, or a range such as 10.0.0.0/8";
  return { host, ports: port === undefined ? DEFAULT_PORTS : [port] };
}

function hostRuleOf(text: string): HostRule | undefined {
  if (text.startsWith("*.")) {
    const name = hostName(text.slice(2));
    return name === undefined ? undefined : { kind: "below", suffix: `.${name}` };
  }
  const name = hostName(text);
  return name === undefined ? rangeRuleOf(text) : { kind: "name", name };
}

function rangeRuleOf(text: string): HostRule | undefined {
  const range = parseRange(text);
  return range === undefined ? undefined : { kind: "range", range, text: text.toLowerCase() };
}

/** The rules of valid entries. An invalid one permits nothing. */
export const egressRules = (entries: readonly string[]): EgressRule[] =>
  entries.map(parseEgressRule).filter((rule) => typeof rule !== "string");

/** Whether a program may ask for `host` and `port`. `host`: a {@link hostName}, or an address without brackets. */
export function mayAsk(rules: readonly EgressRule[], host: string, port: number): boolean {
  const address = parseAddress(host);
  if (address !== undefined) return isListed(rules, address, port);
  return rules.some(
    (rule) =>
      rule.ports.includes(port) &&
      ((rule.host.kind === "name" && rule.host.name === host) ||
        (rule.host.kind === "below" && host.endsWith(rule.host.suffix))),
  );
}

/** Whether the list names this address itself, or its range: what a private address needs. */
export const isListed = (rules: readonly EgressRule[], address: Address, port: number): boolean =>
  rules.some(
    ({ host, ports }) => host.kind === "range" && ports.includes(port) && inRange(address, host.range),
  );

/** What both lists permit. */
export function intersectEgress(parent: readonly string[], child: readonly string[]): string[] {
  const parents = egressRules(parent);
  const both = egressRules(child).flatMap((own) =>
    parents.flatMap((other) => {
      const host = covers(other.host, own.host)
        ? own.host
        : covers(own.host, other.host)
          ? other.host
          : undefined;
      const ports = own.ports.filter((port) => other.ports.includes(port));
      return host === undefined ? [] : entriesOf(host, ports);
    }),
  );
  return [...new Set(both)];
}

function covers(outer: HostRule, inner: HostRule): boolean {
  switch (outer.kind) {
    case "name":
      return inner.kind === "name" && inner.name === outer.name;
    case "below":
      return inner.kind === "name"
        ? inner.name.endsWith(outer.suffix)
        : inner.kind === "below" && inner.suffix.endsWith(outer.suffix);
    case "range":
      return inner.kind === "range" && coversRange(outer.range, inner.range);
  }
}

function entriesOf(host: HostRule, ports: readonly number[]): string[] {
  const text = hostText(host);
  return ports.length === DEFAULT_PORTS.length ? [text] : ports.map((port) => `${text}:${port}`);
}

function hostText(host: HostRule): string {
  if (host.kind === "name") return host.name;
  if (host.kind === "below") return `*${host.suffix}`;
  return host.text.includes(":") ? `[${host.text}]` : host.text;
}
