/**
 * Runs inside a machine: clients that send requests to several sockets in a loop until `STOP_FILE` exists. An incomplete answer
 * counts as a failure; no request is repeated, so none is hidden. Prints the counts as JSON.
 *
 * ```
 * bun load-clients.ts STOP_FILE TARGETS_FILE      [{"name": …, "path": …, "request": hex, "expect": text}, …]
 * ```
 */
import { existsSync, readFileSync } from "node:fs";
import { connect } from "node:net";

/** A socket, what is said there, and what must stand in the answer. */
export type LoadTarget = {
  readonly name: string;
  readonly path: string;
  /** Bytes, in hex. */
  readonly request: string;
  readonly expect: string;
};

export type LoadResult = {
  asked: number;
  failures: string[];
  /** Milliseconds, of whole questions and answers. */
  longestMs: number;
  /** Waits above {@link LATE_MS}. */
  late: number;
};

const WORKERS = 2;
const PAUSE_MS = 10;
/** A wait that a person does not perceive. */
const LATE_MS = 100;
/** Far above any wait that is meant to be. */
const ANSWER_MS_MAX = 30_000;
const FAILURES_MAX = 20;

function ask(target: LoadTarget): Promise<void> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const socket = connect({ path: target.path });
    const timer = setTimeout(() => {
      reject(new Error(`no answer within ${ANSWER_MS_MAX} ms`));
      socket.destroy();
    }, ANSWER_MS_MAX);
    socket.on("connect", () => socket.write(Buffer.from(target.request, "hex")));
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.on("error", reject);
    socket.on("close", () => {
      clearTimeout(timer);
      const answer = Buffer.concat(chunks).toString("latin1");
      if (answer.includes(target.expect)) resolve();
      else reject(new Error(`answered "${answer.slice(0, 200)}"`));
    });
  });
}

async function work(target: LoadTarget, result: LoadResult, stopFile: string): Promise<void> {
  while (!existsSync(stopFile)) {
    const began = performance.now();
    try {
      await ask(target);
    } catch (error) {
      if (result.failures.length < FAILURES_MAX)
        result.failures.push(`${new Date().toISOString()} ${error instanceof Error ? error.message : error}`);
    }
    const ms = performance.now() - began;
    result.asked++;
    result.longestMs = Math.max(result.longestMs, Math.round(ms));
    if (ms > LATE_MS) result.late++;
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

const [stopFile = "", targetsFile = ""] = process.argv.slice(2);
const results = await Promise.all(
  (JSON.parse(readFileSync(targetsFile, "utf8")) as LoadTarget[]).map(
    async (target): Promise<[string, LoadResult]> => {
      const result: LoadResult = { asked: 0, failures: [], longestMs: 0, late: 0 };
      await Promise.all(Array.from({ length: WORKERS }, () => work(target, result, stopFile)));
      return [target.name, result];
    },
  ),
);
console.log(JSON.stringify(Object.fromEntries(results)));
