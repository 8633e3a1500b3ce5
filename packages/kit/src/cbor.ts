/**
 * Reads CBOR as Bureau speaks it: RFC 8949 with definite lengths. `encode-cbor.ts` writes it.
 *
 * Values on a socket have no length prefix; {@link CborScanner} finds where one ends while its bytes arrive, in time
 * linear in their number, so that a peer who drips bytes costs no more than one who does not.
 */
import { BureauError, messageOf } from "./errors.ts";

/**
 * Decodes exactly one value. Maps become objects; integer keys become their decimal text (`"1"`), which no text key
 * on our wires is spelled like. @throws BureauError `invalid-input`
 */
export function decodeCbor(bytes: Uint8Array): unknown {
  try {
    if (new CborScanner().push(bytes) !== bytes.length)
      throw new Error("the bytes are not exactly one value");
    return new ScannedValues(bytes).next();
  } catch (error) {
    if (error instanceof BureauError) throw error;
    throw new BureauError("invalid-input", `cannot decode CBOR: ${messageOf(error)}`);
  }
}

/** Text keeps a leading U+FEFF; bytes that are not UTF-8 are refused rather than replaced. */
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * The values in bytes that {@link CborScanner} has found complete: it has checked every length, and bounded the nesting.
 * Our own, because each sandbox has a proxy, which decodes once: with cborg it would keep 0.5 MB more.
 */
class ScannedValues {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  next(): unknown {
    const first = this.#view.getUint8(this.#at++);
    const info = first & 0x1f;
    const major = first >> 5;
    if (major === 7) return this.#simple(info);
    const argument = this.#argument(info);
    const length = Number(argument);
    switch (major) {
      case 0:
        return argument;
      case 1:
        return negative(argument);
      case 2:
        return this.#take(length).slice();
      case 3:
        return utf8.decode(this.#take(length));
      case 4:
        return Array.from({ length }, () => this.next());
      case 5:
        return this.#map(length);
      default:
        throw new Error("tags are not supported");
    }
  }

  /** A bigint where a number is not exact. */
  #argument(info: number): number | bigint {
    if (info < 24) return info;
    const at = this.#at;
    this.#at += 2 ** (info - 24);
    if (info === 24) return this.#view.getUint8(at);
    if (info === 25) return this.#view.getUint16(at);
    if (info === 26) return this.#view.getUint32(at);
    return exact(this.#view.getBigUint64(at));
  }

  #take(length: number): Uint8Array {
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  #map(entries: number): Record<string, unknown> {
    const object: Record<string, unknown> = Object.create(null);
    for (let entry = 0; entry < entries; entry++) {
      const key = this.next();
      if (typeof key !== "string" && !Number.isInteger(key))
        throw new Error("a map key is neither text nor integer");
      const name = String(key);
      if (name in object) throw new Error(`the map key ${name} stands there twice`);
      object[name] = this.next();
    }
    return object;
  }

  #simple(info: number): unknown {
    if (info === 20 || info === 21) return info === 21;
    if (info === 22) return null;
    if (info < 25) throw new Error(`the simple value ${info} is not supported`);
    const at = this.#at;
    this.#at += 2 ** (info - 24);
    const float =
      info === 25
        ? halfFloat(this.#view.getUint16(at))
        : info === 26
          ? this.#view.getFloat32(at)
          : this.#view.getFloat64(at);
    if (!Number.isFinite(float)) throw new Error(`${float} is not supported`);
    return float;
  }
}

const exact = (integer: bigint): number | bigint =>
  Number.isSafeInteger(Number(integer)) ? Number(integer) : integer;

const negative = (argument: number | bigint): number | bigint =>
  typeof argument === "number" && argument < Number.MAX_SAFE_INTEGER ? -1 - argument : -1n - BigInt(argument);

/** IEEE 754 binary16: sign, 5 bits of exponent, 10 of fraction. */
function halfFloat(bits: number): number {
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Deepest nesting a value on a socket may have. */
const DEPTH_MAX = 64;

/** Finds the end of one CBOR value in a stream of chunks. */
export class CborScanner {
  /** How many items are still to come at each level of nesting; empty when the value is complete. */
  readonly #open: number[] = [1];
  /** Bytes of a header seen so far, when a chunk ended inside it. */
  #header: number[] = [];
  /** Bytes of a string still to pass over. */
  #skip = 0;
  #length = 0;

  /**
   * Reads the next chunk. Returns the value's whole length in bytes once its end has been seen (bytes after it are
   * not looked at), else undefined. @throws BureauError `invalid-input` when it cannot become a value
   */
  push(chunk: Uint8Array): number | undefined {
    let at = 0;
    while (at < chunk.length && this.#open.length > 0) {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, chunk.length - at);
        this.#skip -= step;
        at += step;
        if (this.#skip === 0) this.#close();
        continue;
      }
      this.#header.push(chunk[at] ?? 0);
      at++;
      this.#readHeader();
    }
    this.#length += at;
    return this.#open.length === 0 ? this.#length : undefined;
  }

  #readHeader(): void {
    const first = this.#header[0] ?? 0;
    const info = first & 0x1f;
    if (info >= 28)
      throw new BureauError("invalid-input", "cannot decode CBOR: indefinite or reserved length");
    const extra = info < 24 ? 0 : 2 ** (info - 24);
    if (this.#header.length < 1 + extra) return;
    const argument = extra === 0 ? info : this.#header.slice(1).reduce((sum, byte) => sum * 256 + byte, 0);
    this.#header = [];
    const major = first >> 5;
    if (major === 2 || major === 3) {
      this.#skip = argument;
      if (argument === 0) this.#close();
    } else if (major === 4 || major === 5 || major === 6) {
      const items = major === 4 ? argument : major === 5 ? argument * 2 : 1;
      if (this.#open.length >= DEPTH_MAX)
        throw new BureauError("invalid-input", "cannot decode CBOR: nested too deep");
      if (items === 0) this.#close();
      else this.#open.push(items);
    } else this.#close();
  }

  /** One item is complete, and with it every container it was the last of. */
  #close(): void {
    while (this.#open.length > 0) {
      const top = this.#open.length - 1;
      const left = (this.#open[top] ?? 1) - 1;
      if (left > 0) {
        this.#open[top] = left;
        return;
      }
      this.#open.pop();
    }
  }
}
