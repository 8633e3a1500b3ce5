import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { evalCommand } from "@bureau/os/runtime-command";
import { CborScanner, decodeCbor } from "./cbor.ts";
import { encodeCbor } from "./encode-cbor.ts";
import { BureauError } from "./errors.ts";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex"));

/** Where the first value in `chunks` ends; undefined when it does not. */
function scan(...chunks: Uint8Array[]): number | undefined {
  const scanner = new CborScanner();
  let length: number | undefined;
  for (const chunk of chunks) length = scanner.push(chunk);
  return length;
}

/**
 * RFC 8949, Appendix A, as far as it has values a program here can hold. A number without a fraction has one form in
 * JavaScript, so 1.0 and its like are written as integers (section 4.2.2 allows it).
 */
const appendixA: [unknown, string][] = [
  [0, "00"],
  [1, "01"],
  [10, "0a"],
  [23, "17"],
  [24, "1818"],
  [25, "1819"],
  [100, "1864"],
  [1000, "1903e8"],
  [1000000, "1a000f4240"],
  [1000000000000, "1b000000e8d4a51000"],
  [18446744073709551615n, "1bffffffffffffffff"],
  [-18446744073709551616n, "3bffffffffffffffff"],
  [-1, "20"],
  [-10, "29"],
  [-100, "3863"],
  [-1000, "3903e7"],
  [1.1, "fb3ff199999999999a"],
  [1.5, "f93e00"],
  [3.4028234663852886e38, "fa7f7fffff"],
  [1.0e300, "fb7e37e43c8800759c"],
  [2 ** -24, "f90001"],
  [0.00006103515625, "f90400"],
  [-4.1, "fbc010666666666666"],
  [false, "f4"],
  [true, "f5"],
  [null, "f6"],
  [new Uint8Array(), "40"],
  [new Uint8Array([1, 2, 3, 4]), "4401020304"],
  ["", "60"],
  ["a", "6161"],
  ["IETF", "6449455446"],
  ['"\\', "62225c"],
  ["ü", "62c3bc"],
  ["水", "63e6b0b4"],
  ["𐅑", "64f0908591"],
  [[], "80"],
  [[1, 2, 3], "83010203"],
  [[1, [2, 3], [4, 5]], "8301820203820405"],
  [Array.from({ length: 25 }, (_, i) => i + 1), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"],
  [{}, "a0"],
  [
    new Map([
      [1, 2],
      [3, 4],
    ]),
    "a201020304",
  ],
  [{ a: 1, b: [2, 3] }, "a26161016162820203"],
  [["a", { b: "c" }], "826161a161626163"],
  [{ a: "A", b: "B", c: "C", d: "D", e: "E" }, "a56161614161626142616361436164614461656145"],
];

describe("deterministic encoding", () => {
  test("writes the values of RFC 8949's Appendix A as it does", () => {
    for (const [value, expected] of appendixA) expect(hex(encodeCbor(value))).toBe(expected);
    expect(hex(encodeCbor(Number.POSITIVE_INFINITY))).toBe("f97c00");
    expect(hex(encodeCbor(Number.NaN))).toBe("f97e00");
  });

  test("every value of the appendix reads back, and the scanner finds its end", () => {
    for (const [value, text] of appendixA) {
      const expected = value instanceof Map ? Object.fromEntries(value) : value;
      expect(decodeCbor(bytes(text)) as never, text).toEqual(expected as never);
      expect(scan(bytes(text))).toBe(text.length / 2);
    }
  });

  test("map keys are in the bytewise order of their encodings, as in section 4.2.1", () => {
    const mixed = new Map<unknown, number>([
      ["aa", 0],
      ["z", 0],
      [-1, 0],
      [100, 0],
      [10, 0],
    ]);
    expect(hex(encodeCbor(mixed))).toBe("a50a00186400200061 7a00 62 616100".replaceAll(" ", ""));
    const long = "a".repeat(24);
    expect(hex(encodeCbor({ [long]: 0, b: 0, é: 0, zz: 0 }))).toBe(
      `a4${["6162", "627a7a", "62c3a9", `7818${"61".repeat(24)}`].map((key) => `${key}00`).join("")}`,
    );
  });

  test("keys outside the basic plane are in the order of their UTF-8 bytes, not of JavaScript's units", () => {
    expect(hex(encodeCbor({ "💡x": 0, "\uffffyz": 0, "￼￼": 0, "🀄🀄": 0 }))).toBe(
      `a4${["65efbfbf797a", "65f09f92a178", "66efbfbcefbfbc", "68f09f8084f09f8084"].map((key) => `${key}00`).join("")}`,
    );
  });

  test("the order in which properties were set does not show", () => {
    expect(hex(encodeCbor({ b: 1, a: { d: 1, c: 2 } }))).toBe(hex(encodeCbor({ a: { c: 2, d: 1 }, b: 1 })));
  });

  test("undefined properties are left out", () => {
    expect(hex(encodeCbor({ a: undefined, b: 1 }))).toBe("a1616201");
    expect(hex(encodeCbor({ a: undefined }))).toBe("a0");
  });
});

describe("decoding", () => {
  const refused: [string, string][] = [
    ["", "nothing"],
    ["01 01", "trailing bytes"],
    ["a1 6161", "a map cut off"],
    ["82 01", "an array cut off"],
    ["63 6161", "a text cut off"],
    ["19 01", "a header cut off"],
    ["9f 01 ff", "an indefinite array"],
    ["bf ff", "an indefinite map"],
    ["5f 41 01 ff", "an indefinite byte string"],
    ["7f 61 61 ff", "an indefinite text"],
    ["ff", "a break alone"],
    ["1c", "a reserved header"],
    ["a2 6161 01 6161 02", "a key twice"],
    ["a2 01 01 6131 02", "a key as integer and as text"],
    ["a1 f5 01", "a key that is neither text nor integer"],
    ["a1 f93e00 01", "a key with a fraction"],
    ["a1 80 01", "an array for a key"],
    ["61 ff", "text that is not UTF-8"],
    ["62 c3 28", "text cut within a character"],
    ["a1 61 80 00", "a key that is not UTF-8"],
    ["f7", "undefined"],
    ["f97e00", "not a number"],
    ["f97c00", "infinity"],
    ["c0 61 61", "a tag"],
    ["9b ffffffffffffffff", "an array of 2^64 - 1"],
    ["bb 00ffffffffffffff", "a map of 2^56 - 1"],
    ["5b 00ffffffffffffff", "bytes of 2^56 - 1"],
    ["7a ffffffff 61", "a text of 2^32 - 1"],
    ["9a 00ffffff 01", "an array of 2^24 - 1"],
  ];
  for (const [text, what] of refused)
    test(`refuses ${what}`, () => {
      expect(() => decodeCbor(bytes(text))).toThrow(BureauError);
    });

  test("a key named __proto__ is a key like any other", () => {
    const decoded = decodeCbor(bytes("a1 69 5f5f70726f746f5f5f a1 6161 01")) as Record<string, unknown>;
    expect(Object.keys(decoded)).toEqual(["__proto__"]);
    expect(decoded["a"]).toBeUndefined();
  });

  test("nesting is bounded, and an absurd depth is an error rather than a crash", () => {
    const nested = (depth: number): Uint8Array =>
      new Uint8Array([...new Array<number>(depth).fill(0x81), 0x00]);
    expect(decodeCbor(nested(60))).toBeDefined();
    for (const depth of [65, 1_000, 1_000_000])
      expect(() => decodeCbor(nested(depth))).toThrow(/nested too deep/);
    expect(() => decodeCbor(new Uint8Array(1_000_000).fill(0xc6))).toThrow(/nested too deep/);
  });

  test("text is kept as it is, with a leading byte order mark or replacement characters", () => {
    for (const text of ["\ufeff", "\ufeffé", `\ufeff${"a".repeat(300)}`, "\ufffd", "a\ufffdb", "ￜ", "\u0000"])
      expect(decodeCbor(encodeCbor({ [text]: text }))).toEqual({ [text]: text });
  });

  test("integer keys become their decimal text", () => {
    expect(decodeCbor(bytes("a3 01 02 20 03 6161 04")) as never).toEqual({ 1: 2, "-1": 3, a: 4 } as never);
  });

  test("huge declared lengths allocate nothing", () => {
    const headers = ["9a7fffffff", "ba7fffffff", "5a7fffffff", "7a7fffffff"];
    for (const header of headers) {
      expect(() => decodeCbor(bytes(header))).toThrow(BureauError);
      expect(scan(bytes(header))).toBeUndefined();
    }
    // A process of its own: in this one the memory of other tests comes and goes.
    const child = Bun.spawnSync(evalCommand(takesHeaders(headers)), { stderr: "inherit" });
    expect(Number(child.stdout.toString())).toBeLessThan(64 * 1024);
  });
});

describe("the scanner", () => {
  const seed = Number(process.env["BUREAU_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`cbor: BUREAU_SEED=${seed}`);

  test("finds the end of random values, however they are cut", () => {
    const random = generator(seed);
    for (let round = 0; round < 300; round++) {
      const value = randomValue(random, 5);
      const encoded = encodeCbor(value);
      const told = `BUREAU_SEED=${seed}, round ${round}`;
      expect(decodeCbor(encoded) as never, told).toEqual(value as never);
      expect(hex(encodeCbor(decodeCbor(encoded))), told).toBe(hex(encoded));
      const trailing = new Uint8Array([...encoded, 0xff, 0xff]);
      expect(scan(trailing), told).toBe(encoded.length);
      if (encoded.length < 400)
        for (let at = 0; at <= encoded.length; at++) {
          expect(scan(encoded.subarray(0, at), encoded.subarray(at)), `${told}, cut at ${at}`).toBe(
            encoded.length,
          );
          if (at < encoded.length) expect(scan(encoded.subarray(0, at)), told).toBeUndefined();
        }
      expect(scan(...randomChunks(random, trailing)), told).toBe(encoded.length);
    }
  });

  test("agrees with the decoder on random bytes: what decodes has the length it found", () => {
    const random = generator(seed);
    let decodedCount = 0;
    for (let round = 0; round < 5_000; round++) {
      const noise = Uint8Array.from({ length: 1 + random(12) }, () => random(256));
      let end: number | undefined;
      try {
        end = scan(noise);
      } catch (error) {
        expect(error).toBeInstanceOf(BureauError);
        expect(() => decodeCbor(noise)).toThrow(BureauError);
        continue;
      }
      try {
        decodeCbor(noise);
      } catch (error) {
        expect(error).toBeInstanceOf(BureauError);
        continue;
      }
      decodedCount++;
      expect(end, `BUREAU_SEED=${seed}: ${hex(noise)}`).toBe(noise.length);
    }
    expect(decodedCount).toBeGreaterThan(50);
  });

  test("takes time linear in the bytes, also when they drip in one by one", () => {
    const encoded = encodeCbor(Array.from({ length: 1_000_000 }, (_, i) => i % 20));
    const scanner = new CborScanner();
    const started = performance.now();
    let length: number | undefined;
    for (let i = 0; i < encoded.length; i++) length = scanner.push(encoded.subarray(i, i + 1));
    expect(length).toBe(encoded.length);
    // Were each byte to cost as much as all before it, this would take minutes.
    expect(performance.now() - started).toBeLessThan(20_000);
  });
});

/** A program that decodes and scans headers, 200 times each, and prints the KiB by which its peak of memory grew. */
const takesHeaders = (headers: readonly string[]): string => `
const { decodeCbor, CborScanner } = await import(${JSON.stringify(join(import.meta.dir, "cbor.ts"))});
const { readFileSync } = require("node:fs");
const peakKiB = () => Number(/^VmHWM:\\s*(\\d+)/m.exec(readFileSync("/proc/self/status", "utf8"))[1]);
const before = peakKiB();
for (let i = 0; i < 200; i++)
  for (const header of ${JSON.stringify(headers)}) {
    try { decodeCbor(Buffer.from(header, "hex")); } catch {}
    new CborScanner().push(Buffer.from(header, "hex"));
  }
console.log(peakKiB() - before);
`;

/** Random whole numbers below a bound, the same for the same seed. */
function generator(seed: number): (below: number) => number {
  let state = seed | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

function randomValue(random: (below: number) => number, depth: number): unknown {
  const text = (): string =>
    Array.from({ length: random(30) }, () => ["a", "b", "é", "水", "💡", " "][random(6)]).join("");
  switch (random(depth > 0 ? 9 : 7)) {
    case 0:
      return random(30);
    case 1:
      return -1 - random(2 ** 31);
    case 2:
      return random(2 ** 31) * 2 ** random(21);
    case 3:
      return random(2 ** 31) / 2 ** (1 + random(60)) + 0.1;
    case 4:
      return [null, true, false][random(3)];
    case 5:
      return text();
    case 6:
      return Uint8Array.from({ length: random(300) }, () => random(256));
    case 7:
      return Array.from({ length: random(6) }, () => randomValue(random, depth - 1));
    default:
      return Object.fromEntries(
        Array.from({ length: random(6) }, (_, i) => [`${text()}x${i}`, randomValue(random, depth - 1)]),
      );
  }
}

function randomChunks(random: (below: number) => number, whole: Uint8Array): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < whole.length; ) {
    const step = random(8);
    chunks.push(whole.subarray(at, at + step));
    at += step;
  }
  return chunks;
}
