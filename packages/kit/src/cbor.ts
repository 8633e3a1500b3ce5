/**
 * Reads CBOR as Bureau speaks it: RFC 8949 with definite lengths. `encode-cbor.ts` writes it.
 *
 * Values on a socket have no length prefix; {@link CborScanner} finds where one ends while its bytes arrive, in time
 * linear in their number, so that a peer who drips bytes costs no more than one who does not.
 */
import { decode, Tokenizer, Type } from "cborg";
import { BureauError, messageOf } from "./errors.ts";

const decodeOptions = {
  strict: false,
  allowBigInt: true,
  allowIndefinite: false,
  allowUndefined: false,
  allowNaN: false,
  allowInfinity: false,
  rejectDuplicateMapKeys: true,
  useMaps: true,
} as const;

/**
 * Decodes exactly one value. Maps become objects; integer keys become their decimal text (`"1"`), which no text key
 * on our wires is spelled like. @throws BureauError `invalid-input`
 */
export function decodeCbor(bytes: Uint8Array): unknown {
  try {
    // Bounds the nesting before anything recurses into it.
    new CborScanner().push(bytes);
    return plain(decode(bytes, { ...decodeOptions, tokenizer: new StrictTokenizer(bytes, decodeOptions) }));
  } catch (error) {
    if (error instanceof BureauError) throw error;
    throw new BureauError("invalid-input", `cannot decode CBOR: ${messageOf(error)}`);
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The library's, but text keeps a leading U+FEFF, and bytes that are not UTF-8 are refused rather than replaced. */
class StrictTokenizer extends Tokenizer {
  override next(): ReturnType<Tokenizer["next"]> {
    const start = this.pos();
    const token = super.next();
    if (token.type !== Type.string || typeof token.value !== "string") return token;
    const info = (this.data[start] ?? 0) & 0x1f;
    const text = this.data.subarray(start + 1 + (info < 24 ? 0 : 2 ** (info - 24)), this.pos());
    if (text[0] === 0xef || token.value.includes("\ufffd")) token.value = utf8.decode(text);
    return token;
  }
}

function plain(value: unknown): unknown {
  if (value instanceof Map) {
    const object: Record<string, unknown> = Object.create(null);
    for (const [key, item] of value) {
      if (typeof key !== "string" && !Number.isInteger(key))
        throw new Error("a map key is neither text nor integer");
      const name = String(key);
      if (name in object) throw new Error(`the map key ${name} stands both as text and as integer`);
      object[name] = plain(item);
    }
    return object;
  }
  return Array.isArray(value) ? value.map(plain) : value;
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
