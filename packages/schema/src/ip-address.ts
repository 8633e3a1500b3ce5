/**
 * IP addresses and ranges, and which of them belong to the public internet. Pure.
 *
 * Only strict spellings parse: no octal, hexadecimal or shortened IPv4, no zone. An IPv4 address that is mapped into IPv6
 * (`::ffff:127.0.0.1`) is that IPv4 address.
 */

export type Address = { readonly bits: 32 | 128; readonly value: bigint };
export type AddressRange = Address & {
  /** Leading bits that an address of the range shares with `value`. */
  readonly prefix: number;
};

/** An address without brackets. */
export function parseAddress(text: string): Address | undefined {
  return text.includes(":") ? parseV6(text) : parseV4(text);
}

function parseV4(text: string): Address | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^(?:0|[1-9]\d{0,2})$/u.test(part) && Number(part) < 256))
    return undefined;
  return { bits: 32, value: parts.reduce((sum, part) => (sum << 8n) | BigInt(part), 0n) };
}

function parseV6(text: string): Address | undefined {
  const groups = groupsOf(text);
  if (groups === undefined) return undefined;
  const value = groups.reduce((sum, group) => (sum << 16n) | BigInt(group), 0n);
  return value >> 32n === 0xffffn ? { bits: 32, value: value & 0xffff_ffffn } : { bits: 128, value };
}

/** The eight groups of an IPv6 address. */
function groupsOf(text: string): number[] | undefined {
  const halves = text.split("::").map((half, index, all) => halfOf(half, index === all.length - 1));
  const [head, tail] = halves;
  if (halves.length > 2 || head === undefined || halves.includes(undefined)) return undefined;
  if (halves.length === 1) return head.length === 8 ? head : undefined;
  const missing = 8 - head.length - (tail?.length ?? 0);
  return missing < 1 ? undefined : [...head, ...new Array<number>(missing).fill(0), ...(tail ?? [])];
}

/** IPv4 in dots may only end an address. */
function halfOf(text: string, isLast: boolean): number[] | undefined {
  if (text === "") return [];
  const groups: number[] = [];
  const parts = text.split(":");
  for (const [index, part] of parts.entries()) {
    if (part.includes(".")) {
      const embedded = isLast && index === parts.length - 1 ? parseV4(part) : undefined;
      if (embedded === undefined) return undefined;
      groups.push(Number(embedded.value >> 16n), Number(embedded.value & 0xffffn));
    } else if (/^[0-9a-f]{1,4}$/iu.test(part)) groups.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return groups;
}

/** `ADDRESS` or `ADDRESS/PREFIX`; bits after the prefix must be 0. */
export function parseRange(text: string): AddressRange | undefined {
  const [address = "", length, ...more] = text.split("/");
  const parsed = parseAddress(address);
  if (parsed === undefined || more.length > 0) return undefined;
  if (length === undefined) return { bits: parsed.bits, value: parsed.value, prefix: parsed.bits };
  if (!/^\d{1,3}$/u.test(length) || Number(length) > parsed.bits) return undefined;
  const range = { bits: parsed.bits, value: parsed.value, prefix: Number(length) };
  return startOf(range, range.value) === range.value ? range : undefined;
}

const startOf = ({ bits, prefix }: AddressRange, value: bigint): bigint => {
  const free = BigInt(bits - prefix);
  return (value >> free) << free;
};

export const inRange = (address: Address, range: AddressRange): boolean =>
  address.bits === range.bits && startOf(range, address.value) === range.value;

/** True when every address of `inner` is in `outer`. */
export const coversRange = (outer: AddressRange, inner: AddressRange): boolean =>
  inner.prefix >= outer.prefix && inRange(inner, outer);

const ranges = (...texts: readonly string[]): readonly AddressRange[] =>
  texts.map((text) => {
    const range = parseRange(text);
    if (range === undefined) throw new Error(`not a range: ${text}`);
    return range;
  });

/** IANA's special-purpose registry for IPv4 (RFC 6890 and its updates), with multicast and the reserved block. */
const notPublicV4 = ranges(
  "0.0.0.0/8", // this network
  "10.0.0.0/8", // private
  "100.64.0.0/10", // carrier-grade NAT
  "127.0.0.0/8", // loopback
  "169.254.0.0/16", // link-local, with the metadata services of clouds
  "172.16.0.0/12", // private
  "192.0.0.0/24", // protocol assignments
  "192.0.2.0/24", // documentation
  "192.88.99.0/24", // 6to4 relays
  "192.168.0.0/16", // private
  "198.18.0.0/15", // benchmarks
  "198.51.100.0/24", // documentation
  "203.0.113.0/24", // documentation
  "224.0.0.0/4", // multicast
  "240.0.0.0/4", // reserved, broadcast
);
/** IPv6 outside of this range is loopback, link-local, unique local, multicast, a translation of IPv4, or unassigned. */
const globalV6 = ranges("2000::/3");
const notPublicV6 = ranges(
  "2001::/23", // protocol assignments, with Teredo
  "2001:db8::/32", // documentation
  "2002::/16", // 6to4, which embeds IPv4
  "3fff::/20", // documentation
);

/** False for loopback, private, link-local, carrier-grade NAT, multicast, reserved and translated addresses. */
export function isPublic(address: Address): boolean {
  const within = (list: readonly AddressRange[]): boolean => list.some((range) => inRange(address, range));
  return address.bits === 32 ? !within(notPublicV4) : within(globalV6) && !within(notPublicV6);
}
