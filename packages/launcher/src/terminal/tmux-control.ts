/**
 * A connection to the tmux server that stays open, in tmux's control mode: a command costs a line instead of a process.
 * It only saves time: without it the caller runs a tmux client. When it breaks, it is unknown whether the server still
 * ran the last command, so a command that creates something must not be sent again.
 *
 * Control mode belongs to a session, so there is one with a dead pane for it, which remain-on-exit keeps. Answers come in blocks, in order:
 *
 * ```
 * %begin <time> <number> 1
 * …output
 * %end <time> <number> 1        or %error
 * ```
 *
 * Blocks whose last flag is not 1, and other lines that start with `%`, report what other clients did.
 */
export type ControlAnswer = { readonly ok: boolean; readonly lines: readonly string[] };
/** No answer: the command was not sent, or it was sent and the server may have run it. */
export type NoAnswer = "unsent" | "unanswered";

/** The session of the connection. Sessions of principals begin with `bureau/`. */
export const CONTROL_SESSION = "_control";
/** Answers are a pid or a sentence. */
const BUFFER_BYTES_MAX = 64 * 1024;
/** A command takes milliseconds. A server that takes longer than this hangs. */
const ANSWER_MS_MAX = 5_000;

/** One client, and the callers that wait for its answers, in order. */
type Connection = {
  readonly child: Bun.Subprocess<"pipe", "pipe", "ignore">;
  readonly waiting: ((answer: ControlAnswer | "unanswered") => void)[];
};

export class TmuxControl implements Disposable {
  readonly #client: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  #connection: Connection | undefined;

  /** `client` is the tmux command up to its own arguments. */
  constructor(client: readonly string[], env: Readonly<Record<string, string>>) {
    this.#client = client;
    this.#env = env;
  }

  /** Opens the connection unless it is open. Never throws: without it commands are only slower. */
  open(): void {
    if (this.#connection !== undefined) return;
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
      const connection: Connection = { child, waiting: [] };
      this.#connection = connection;
      void this.#read(connection);
      // The output of a client whose server was killed does not always end with it.
      void child.exited.then(() => this.#lose(connection));
    } catch {
      // tmux is missing; the callers report that.
    }
  }

  /** The answer to one command. */
  run(words: readonly string[]): Promise<ControlAnswer | NoAnswer> {
    const connection = this.#connection;
    if (connection === undefined || words.some((word) => word.includes("\n")))
      return Promise.resolve("unsent");
    return new Promise((resolve) => {
      // Answers come in order: after a late one, no later answer could be matched to its command.
      const late = setTimeout(() => this.#end(connection), ANSWER_MS_MAX);
      connection.waiting.push((answer) => {
        clearTimeout(late);
        resolve(answer);
      });
      try {
        const { stdin } = connection.child;
        stdin.write(`${words.map(quoteForTmux).join(" ")}\n`);
        void stdin.flush();
      } catch {
        this.#end(connection);
      }
    });
  }

  [Symbol.dispose](): void {
    if (this.#connection !== undefined) this.#end(this.#connection);
  }

  async #read(connection: Connection): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    let block: string[] | undefined;
    try {
      for await (const chunk of connection.child.stdout) {
        const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
        rest = lines.pop() ?? "";
        if (rest.length > BUFFER_BYTES_MAX) break;
        for (const line of lines) {
          if (/^%begin \d+ \d+ 1$/.test(line)) block = [];
          else if (block !== undefined && /^%(end|error) \d+ \d+ 1$/.test(line)) {
            connection.waiting.shift()?.({ ok: line.startsWith("%end"), lines: block });
            block = undefined;
          } else block?.push(line);
        }
      }
    } catch {
      // The connection is lost, as after the end of the output.
    }
    this.#lose(connection);
  }

  #end(connection: Connection): void {
    this.#lose(connection);
    // After SIGTERM a client waits for its server.
    connection.child.kill("SIGKILL");
  }

  /** Forgets the connection, and answers its waiting callers. */
  #lose(connection: Connection): void {
    if (this.#connection === connection) this.#connection = undefined;
    for (const waiting of connection.waiting.splice(0)) waiting("unanswered");
  }
}

/** One word for tmux's own parser, which treats single quotes as sh does. */
export const quoteForTmux = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;
