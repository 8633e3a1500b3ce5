/**
 * The audit log on disk: events that the homeserver does not have yet, where their chain stands, and acts that are still
 * being counted. One file of lines, only appended to, so that a killed daemon loses nothing:
 *
 * ```
 * {"base":{chain,sequence,hash},"machine":"@…"}   first: the last event that was sent before the rest
 * {"open":3,"record":{…},"time":…}                equal acts, counted in place: see below
 * {"event":{…}}   {"event":{…},"closed":3}        the next of the chain
 * {"event":{…},"begins":"…"}                      the grant of this key is known from now on; "ends": no longer
 * {"grant":"…","record":{…}}                      a grant that is known, when the file was written again
 * {"sent":12}                                     the homeserver has the events up to this sequence
 * ```
 *
 * The count of an open line is overwritten in place, so a thousand denials a second write no more than one. An event is on
 * the disk before it is sent: after a power cut the room has no event that the file does not know. When most of the file
 * is sent, it is written again without that part.
 */
import {
  closeSync,
  fdatasync,
  fdatasyncSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  writeSync,
} from "node:fs";
import { chained, type Times } from "@bureau/kit/audit-chain";
import { BureauError } from "@bureau/kit/errors";
import { fileError } from "@bureau/kit/file-error";
import type { Log } from "@bureau/kit/log";
import { sha256Hex } from "@bureau/os/digest";
import { readIfPresent, removeTemporaries, writeDurably } from "@bureau/os/durable-file";
import {
  type AuditRecord,
  AuditRecordSchema,
  type ChainedAudit,
  ChainedAuditSchema,
  type ChainHead,
  ChainHeadSchema,
} from "@bureau/schema/audit";
import * as v from "valibot";

/** Some 20,000 events. */
const BYTES_MAX = 16 << 20;
/** Below it the file is not written again. */
const COMPACT_BYTES_MIN = 256 << 10;
const COUNT_DIGITS = 10;
const TIME_CHARS = 24;
const BATCH_CHARS = 20;

const integer = v.pipe(v.number(), v.integer());
const LineSchema = v.union([
  v.object({ base: ChainHeadSchema, machine: v.string() }),
  v.object({
    count: v.string(),
    last: v.string(),
    batch: v.string(),
    open: integer,
    time: v.string(),
    record: AuditRecordSchema,
  }),
  // As it was written, also by a build that knows more fields: its hash is over all of them.
  v.object({
    event: v.custom<ChainedAudit>((value) => v.is(ChainedAuditSchema, value)),
    closed: v.optional(integer),
    begins: v.optional(v.string()),
    ends: v.optional(v.string()),
  }),
  v.object({ grant: v.string(), record: AuditRecordSchema }),
  v.object({ sent: integer }),
]);
type Line = v.InferOutput<typeof LineSchema>;
type EventLine = Extract<Line, { event: unknown }>;

/** The grant whose beginning or end an event is. */
export type GrantStep = { readonly begins?: string | undefined; readonly ends?: string | undefined };

/** Equal acts that are being counted: one open line. */
export class OpenCount {
  count = 1;
  last: string;
  /** The last batch of acts counted elsewhere that is in the count; `""` for none. */
  batch = "";
  constructor(
    readonly id: number,
    readonly record: AuditRecord,
    readonly time: string,
    /** Of the line in the file; it moves when the file is written again. */
    public at: number,
  ) {
    this.last = time;
  }

  get times(): Times {
    const { time, last, count } = this;
    return count === 1 ? { time, count } : { time, last_time: last, count };
  }

  get line(): string {
    const { id, record, time } = this;
    return `${this.head}${JSON.stringify({ open: id, time, record }).slice(1)}\n`;
  }

  /** The part that is overwritten in place: it never changes its length. */
  get head(): string {
    return `{"count":"${String(this.count).padStart(COUNT_DIGITS, "0")}","last":"${this.last.padEnd(TIME_CHARS)}","batch":"${this.batch.padEnd(BATCH_CHARS)}",`;
  }
}

export type AuditFileOptions = {
  /** Whose log it is, by its user ID: a host may leave one fleet and join another. */
  readonly machine: string;
  readonly log: Log;
  readonly bytesMax?: number;
};

export class AuditFile implements Disposable {
  readonly #path: string;
  readonly #machine: string;
  readonly #log: Log;
  readonly #bytesMax: number;
  readonly #open = new Map<number, OpenCount>();
  readonly #grants = new Map<string, AuditRecord>();
  #fd: number;
  /** Where the next line goes. */
  #end = 0;
  /** Up to here the content is on the disk. */
  #synced = 0;
  /** Before it every event was sent. */
  #cursor = 0;
  #head: ChainHead;
  #sent: ChainHead;
  #ids = 0;

  /** Opens the file or makes it. @throws BureauError when it cannot be read or written */
  constructor(path: string, { machine, log, bytesMax = BYTES_MAX }: AuditFileOptions) {
    this.#path = path;
    this.#machine = machine;
    this.#log = log;
    this.#bytesMax = bytesMax;
    try {
      removeTemporaries(path);
      const text = this.#ownText();
      const chain = crypto.getRandomValues(new Uint8Array(8)).toHex();
      this.#head = { chain, sequence: 0, hash: "" };
      this.#sent = this.#head;
      if (text === "") writeDurably(path, baseLine(this.#head, machine), 0o600);
      this.#fd = openSync(path, "r+");
      this.#read(text);
    } catch (error) {
      throw fileError(
        `Cannot open the audit log "${path}"`,
        error,
        "repair the file, or move it away: a new chain begins then",
      );
    }
  }

  /** The last event of the chain, sent or not. */
  get head(): ChainHead {
    return this.#head;
  }

  /** The last event that the homeserver has. */
  get sent(): ChainHead {
    return this.#sent;
  }

  get hasUnsent(): boolean {
    return this.#sent.sequence < this.#head.sequence;
  }

  get isFull(): boolean {
    return this.#end >= this.#bytesMax;
  }

  get bytes(): number {
    return this.#end;
  }

  /** The counts that are open, in the order in which they began: after a start those of the program before. */
  get counting(): readonly OpenCount[] {
    return [...this.#open.values()];
  }

  /** Grants whose beginning is in the chain and whose end is not, by a key of the caller. */
  get grants(): ReadonlyMap<string, AuditRecord> {
    return this.#grants;
  }

  /** Adds an event to the chain. @throws BureauError with nothing added: it is full, or the disk is */
  append(record: AuditRecord, time: string, grant: GrantStep = {}): ChainedAudit {
    if (this.isFull) throw full(this.#path, this.#bytesMax);
    const event = this.#chain(record, { time, count: 1 }, grant);
    this.#noteGrant(record, grant);
    return event;
  }

  /** Begins to count equal acts. @throws BureauError with nothing added: it is full, or the disk is */
  begin(record: AuditRecord, time: string, batch = ""): OpenCount {
    if (this.isFull) throw full(this.#path, this.#bytesMax);
    const open = new OpenCount(++this.#ids, record, time, this.#end);
    open.batch = batch;
    this.#write(open.line);
    this.#open.set(open.id, open);
    return open;
  }

  /** Counts more acts, the last of them at `last`. */
  count(open: OpenCount, more: number, last: string, batch = open.batch): void {
    open.count = Math.min(open.count + more, 10 ** COUNT_DIGITS - 1);
    open.last = last;
    open.batch = batch;
    this.#writeAt(Buffer.from(open.head), open.at);
  }

  /** Ends a count: its record becomes the next event. Also when the file is full. @throws BureauError when the disk does not take it */
  close(open: OpenCount): void {
    this.#chain(open.record, open.times, { closed: open.id });
    this.#open.delete(open.id);
  }

  /** The next event to send. It is on the disk. */
  async next(): Promise<ChainedAudit | undefined> {
    while (this.hasUnsent) {
      const found = this.#lineAt(this.#cursor);
      if (found === undefined) return undefined;
      const { line, end } = found;
      if (line !== undefined && "event" in line && line.event.sequence > this.#sent.sequence) {
        if (end > this.#synced) await this.sync();
        return line.event;
      }
      this.#cursor = end;
    }
    return undefined;
  }

  /** The homeserver has `event`, the one {@link next} returned. */
  markSent({ chain, sequence, hash }: ChainHead): void {
    this.#sent = { chain, sequence, hash };
    this.#write(`{"sent":${sequence}}\n`);
    if (!this.hasUnsent) this.#cursor = this.#end;
    if (this.#cursor > Math.min(COMPACT_BYTES_MIN, this.#bytesMax / 2) && this.#cursor > this.#end / 2)
      this.#compact();
  }

  /** Brings everything written so far to the disk, without blocking other work. */
  sync(): Promise<void> {
    const [fd, end] = [this.#fd, this.#end];
    if (end <= this.#synced) return Promise.resolve();
    return new Promise((resolve, reject) =>
      fdatasync(fd, (error) => {
        // The file was written again meanwhile, with all of it.
        if (fd !== this.#fd) return resolve();
        if (error !== null) return reject(this.#error(error));
        this.#synced = Math.max(this.#synced, end);
        resolve();
      }),
    );
  }

  /** The same, at once. @throws BureauError when the disk does not take it */
  syncNow(): void {
    try {
      fdatasyncSync(this.#fd);
    } catch (error) {
      throw this.#error(error);
    }
    this.#synced = this.#end;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #chain(record: AuditRecord, times: Times, more: Omit<EventLine, "event">): ChainedAudit {
    const event = chained(record, times, this.#head, sha256Hex);
    this.#write(eventLine({ ...more, event }));
    this.#head = headOf(event);
    return event;
  }

  #noteGrant(record: AuditRecord, { begins, ends }: GrantStep): void {
    if (begins !== undefined) this.#grants.set(begins, record);
    if (ends !== undefined) this.#grants.delete(ends);
  }

  #write(text: string): void {
    const bytes = Buffer.from(text);
    this.#writeAt(bytes, this.#end);
    this.#end += bytes.length;
  }

  #writeAt(bytes: Buffer, at: number): void {
    try {
      for (let done = 0; done < bytes.length; )
        done += writeSync(this.#fd, bytes, done, bytes.length - done, at + done);
    } catch (error) {
      // A part of a line at the end would hide the next one.
      if (at === this.#end) ftruncateSync(this.#fd, at);
      throw this.#error(error);
    }
  }

  #error(error: unknown): BureauError {
    return fileError(
      `Cannot write the audit log "${this.#path}"`,
      error,
      "make space on the disk of the state folder",
    );
  }

  /** The line that begins at an offset, and where the next begins; undefined at the end. */
  #lineAt(offset: number): { readonly line: Line | undefined; readonly end: number } | undefined {
    for (let size = 4_096; ; size *= 4) {
      const buffer = Buffer.alloc(size);
      const length = readSync(this.#fd, buffer, 0, size, offset);
      const newline = buffer.subarray(0, length).indexOf(10);
      if (newline >= 0)
        return { line: lineOf(buffer.toString("utf8", 0, newline)), end: offset + newline + 1 };
      if (length < size) return undefined;
    }
  }

  /** The text of the file; `""` when there is none. The log of another machine is kept beside it. */
  #ownText(): string {
    const text = readIfPresent(this.#path) ?? "";
    const first = lineOf(text.slice(0, Math.max(0, text.indexOf("\n"))));
    if (first === undefined || !("base" in first) || first.machine === this.#machine) return text;
    const kept = `${this.#path}.before`;
    renameSync(this.#path, kept);
    this.#log.warn(
      "audit.other-machine",
      "the audit log is another machine's: it is kept, and a new one begins",
      {
        machine: first.machine,
        kept,
      },
    );
    return "";
  }

  #read(text: string): void {
    const whole = text.slice(0, text.lastIndexOf("\n") + 1);
    const unsent: ChainHead[] = [];
    for (const one of whole.split("\n").slice(0, -1)) this.#readLine(one, unsent);
    this.#end =
      text === "" ? Buffer.byteLength(baseLine(this.#head, this.#machine)) : Buffer.byteLength(whole);
    // Cut off by a crash: it was not acted on.
    ftruncateSync(this.#fd, this.#end);
    this.#synced = 0;
    if (!this.hasUnsent) this.#cursor = this.#end;
  }

  /** `unsent`: the events before it that no line says were sent. */
  #readLine(text: string, unsent: ChainHead[]): void {
    const at = this.#end;
    this.#end += Buffer.byteLength(text) + 1;
    const line = lineOf(text);
    if (line === undefined) {
      this.#log.error(
        "audit.line-unreadable",
        "a line of the audit log cannot be read; verify will find its gap",
        { at },
      );
      return;
    }
    if ("base" in line) {
      this.#head = line.base;
      this.#sent = line.base;
    } else if ("open" in line) {
      const open = new OpenCount(line.open, line.record, line.time, at);
      open.count = Number(line.count);
      open.last = line.last.trimEnd();
      open.batch = line.batch.trimEnd();
      this.#open.set(open.id, open);
      this.#ids = Math.max(this.#ids, open.id);
    } else if ("grant" in line) {
      this.#grants.set(line.grant, line.record);
    } else if ("event" in line) {
      this.#head = headOf(line.event);
      unsent.push(this.#head);
      if (line.closed !== undefined) this.#open.delete(line.closed);
      this.#noteGrant(line.event, line);
    } else
      while ((unsent[0]?.sequence ?? Number.POSITIVE_INFINITY) <= line.sent)
        this.#sent = unsent.shift() ?? this.#sent;
  }

  /** Writes the file again without what was sent. */
  #compact(): void {
    const lines = [baseLine(this.#sent, this.#machine)];
    for (let at = this.#cursor; ; ) {
      const found = this.#lineAt(at);
      if (found === undefined) break;
      const { line, end } = found;
      if (line !== undefined && "event" in line) lines.push(eventLine({ event: line.event }));
      at = end;
    }
    for (const [grant, record] of this.#grants) lines.push(`${JSON.stringify({ grant, record })}\n`);
    let end = lines.reduce((sum, line) => sum + Buffer.byteLength(line), 0);
    const moved = this.counting.map((open) => {
      const at = end;
      end += Buffer.byteLength(open.line);
      lines.push(open.line);
      return { open, at };
    });
    try {
      writeDurably(this.#path, lines.join(""), 0o600);
      const before = this.#fd;
      this.#fd = openSync(this.#path, "r+");
      closeSync(before);
    } catch (error) {
      // The file as it is stays valid.
      this.#log.warn("audit.compaction-failed", "cannot write the audit log again without what was sent", {
        error,
      });
      return;
    }
    for (const { open, at } of moved) open.at = at;
    this.#end = end;
    this.#synced = end;
    this.#cursor = 0;
  }
}

const headOf = ({ chain, sequence, hash }: ChainedAudit): ChainHead => ({ chain, sequence, hash });
const baseLine = (base: ChainHead, machine: string): string => `${JSON.stringify({ base, machine })}\n`;
const eventLine = (line: EventLine): string => `${JSON.stringify(line)}\n`;

function lineOf(text: string): Line | undefined {
  try {
    const parsed = v.safeParse(LineSchema, JSON.parse(text));
    return parsed.success ? parsed.output : undefined;
  } catch {
    return undefined;
  }
}

const full = (path: string, bytes: number): BureauError =>
  new BureauError(
    "unavailable",
    `The audit log "${path}" is full: ${bytes >> 20} MiB of events are not sent yet`,
    {
      hint: "sensitive acts are refused until the homeserver has taken them: bureau status shows the connection",
    },
  );
