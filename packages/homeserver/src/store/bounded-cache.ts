/**
 * A cache with a bound on the sum of its entries' weights. It drops entries at random. When all entries are used in turn, as
 * by a fleet's heartbeats, and a tenth does not fit, about a tenth of the reads misses. If it dropped the least recently used
 * entry, every read would miss.
 */
type Entry<Value> = { readonly value: Value; readonly weight: number; place: number };

export class BoundedCache<Value> {
  readonly #weightMax: number;
  readonly #weigh: (value: Value) => number;
  readonly #random: () => number;
  readonly #entries = new Map<string, Entry<Value>>();
  readonly #keys: string[] = [];
  #weight = 0;

  constructor(weightMax: number, weigh: (value: Value) => number = () => 1, random = Math.random) {
    this.#weightMax = weightMax;
    this.#weigh = weigh;
    this.#random = random;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): Value | undefined {
    return this.#entries.get(key)?.value;
  }

  /** Also for a value that is in the cache and grew. The new entry itself stays, however heavy it is. */
  set(key: string, value: Value): void {
    this.delete(key);
    const weight = this.#weigh(value);
    while (this.#keys.length > 0 && this.#weight + weight > this.#weightMax) {
      const dropped = this.#keys[Math.floor(this.#random() * this.#keys.length)];
      if (dropped !== undefined) this.delete(dropped);
    }
    this.#entries.set(key, { value, weight, place: this.#keys.length });
    this.#keys.push(key);
    this.#weight += weight;
  }

  delete(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#weight -= entry.weight;
    const last = this.#keys.pop();
    const moved = last === undefined || last === key ? undefined : this.#entries.get(last);
    if (last === undefined || moved === undefined) return;
    this.#keys[entry.place] = last;
    moved.place = entry.place;
  }

  *[Symbol.iterator](): Generator<[key: string, value: Value], void, undefined> {
    for (const [key, { value }] of this.#entries) yield [key, value];
  }
}
