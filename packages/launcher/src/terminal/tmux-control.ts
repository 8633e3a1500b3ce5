/**
 * A connection to the tmux server that stays open, in tmux's control mode: a command costs a line instead of a process.
 * It is only ever a quicker way: whenever it is not there, the caller runs a tmux client instead. When it breaks, nobody
 * knows whether the server still did what it was told, and a command that makes something must not be given again.
 *
 * Control mode belongs to a session, so there is one with a dead pane for it, which remain-on-exit keeps. Answers come in blocks, in order:
 *
 * ```
 * %begin <time> <number> 1
 * …output
 * %end <time> <number> 1        or %error
 * ```
 *
 * Blocks whose last flag is not 1, and other lines that start with `%`, are notices of what others did.
 */
export type ControlAnswer = { readonly ok: boolean; readonly lines: readonly string[] };
/** No answer: the command was never given, or it was, and the server may have obeyed. */
export type NoAnswer = "unsent" | "unanswered";

/** The session that keeps the connection; no principal's, whose names begin with `bureau/`. */
export const CONTROL_SESSION = "_control";
/** Answers are a pid or a sentence. */
const BUFFER_BYTES_MAX = 64 * 1024;
/** A command takes milliseconds; after this its caller runs a client of its own. */
const ANSWER_MS_MAX = 5_000;

type Child = Bun.Subprocess<"pipe", "pipe", "ignore">;
type Waiting = (answer: ControlAnswer | "unanswered") => void;

export class TmuxControl implements Disposable {
  readonly #client: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  #child: Child | undefined;
  readonly #waiting: Waiting[] = [];

  /** `client` is the tmux command up to its own arguments. */
  constructor(client: readonly string[], env: Readonly<Record<string, string>>) {
    this.#client = client;
    this.#env = env;
  }

  /** Opens the connection unless it is open. Never throws: without it everything works, only slower. */
  open(): void {
    if (this.#child !== undefined) return;
    const [program = "tmux", ...before] = this.#client;
    try {
      const child = Bun.spawn(
        [program, ...before, "-C", "new-session", "-A", "-s", CONTROL_SESSION, "true"],
        {
          env: { ...this.#env },
          cwd: "/",
          stdin: "pipe",
          stdout: "pipe",
          stderr: "ignore",
        },
      );
      child.unref();
      this.#child = child;
      void this.#read(child);
      // Its output alone does not always tell that a client whose server was killed has ended.
      void child.exited.then(() => this.#lose(child));
    } catch {
      this.#child = undefined;
    }
  }

  /** The answer to one command. */
  run(words: readonly string[]): Promise<ControlAnswer | NoAnswer> {
    const child = this.#child;
    if (child === undefined || words.some((word) => word.includes("\n"))) return Promise.resolve("unsent");
    return new Promise((resolve) => {
      // Answers come in order, so one that is late makes all others wrong.
      const late = setTimeout(() => {
        this.#lose(child);
        child.kill();
      }, ANSWER_MS_MAX);
      this.#waiting.push((answer) => {
        clearTimeout(late);
        resolve(answer);
      });
      try {
        child.stdin.write(`${words.map(quoteForTmux).join(" ")}\n`);
        void child.stdin.flush();
      } catch {
        this.#lose(child);
      }
    });
  }

  [Symbol.dispose](): void {
    const child = this.#child;
    if (child === undefined) return;
    this.#lose(child);
    child.kill();
  }

  async #read(child: Child): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    let block: string[] | undefined;
    try {
      for await (const chunk of child.stdout) {
        const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
        rest = lines.pop() ?? "";
        if (rest.length > BUFFER_BYTES_MAX) break;
        for (const line of lines) {
          if (/^%begin \d+ \d+ 1$/.test(line)) block = [];
          else if (block !== undefined && /^%(end|error) \d+ \d+ 1$/.test(line)) {
            this.#waiting.shift()?.({ ok: line.startsWith("%end"), lines: block });
            block = undefined;
          } else block?.push(line);
        }
      }
    } catch {
      // Lost, as below.
    }
    this.#lose(child);
  }

  #lose(child: Child): void {
    if (this.#child === child) this.#child = undefined;
    for (const waiting of this.#waiting.splice(0)) waiting("unanswered");
  }
}

/** One word for tmux's own parser, which treats single quotes as sh does. */
export const quoteForTmux = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;
