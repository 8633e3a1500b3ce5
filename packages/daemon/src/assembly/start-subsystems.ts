/** Starts a list of subsystems, each with the parts of those it needs. */
import type { DebugPart } from "@bureau/schema/observe-wire";
import type { HandOver } from "./hand-over.ts";
import type { DaemonContext, Started, Subsystem, View } from "./subsystem.ts";

/** Any subsystem: its `start` takes what only its own type says. */
type AnySubsystem = {
  readonly name: string;
  readonly needs: object;
  start(needs: never, context: DaemonContext): Started<unknown> | Promise<Started<unknown>>;
};

/** `List`, when each subsystem needs only those before it; else a sentence at the first that does not. */
export type InOrder<List, Have = object> = List extends readonly [infer First, ...infer Rest]
  ? First extends Subsystem<infer Name, infer Needs, infer Part>
    ? Have extends Needs
      ? readonly [First, ...InOrder<Rest, Have & { readonly [Key in Name]: Part }>]
      : readonly [`"${Name}" needs a part that no subsystem before it has`, ...Rest]
    : never
  : readonly [];

/** The parts of `List` by name. */
export type PartsOf<List extends readonly unknown[]> = {
  readonly [One in List[number] as NameOf<One>]: PartOf<One>;
};
type NameOf<One> = One extends { readonly name: infer Name extends string } ? Name : never;
type PartOf<One> = One extends Subsystem<string, infer _Needs, infer Part> ? Part : never;

/** What was started so far, in order. */
export class RunningSubsystems {
  readonly #started: (Started<unknown> & { readonly name: string })[] = [];

  /** Starts all of `list` in order. On failure those that were started are stopped. @throws what a start throws */
  async start<const List extends readonly AnySubsystem[]>(
    list: List & InOrder<List>,
    context: DaemonContext,
  ): Promise<PartsOf<List>> {
    const parts: Record<string, unknown> = {};
    try {
      for (const { name, needs, start } of list as readonly AnySubsystem[]) {
        const given = Object.fromEntries(Object.keys(needs).map((need) => [need, parts[need]]));
        const started = await start(given as never, context);
        this.#started.push({ ...started, name });
        parts[name] = started.part;
      }
    } catch (error) {
      await this.stop();
      throw error;
    }
    return parts as PartsOf<List>;
  }

  /** Begins every loop. Each promise resolves or rejects when its loop ends. */
  run(signal: AbortSignal): Promise<unknown>[] {
    return this.#started.flatMap(({ loops = [] }) => loops.map((loop) => loop(signal)));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#started.map(async ({ stop }) => await stop?.()));
  }

  get handOvers(): HandOver[] {
    return this.#started.flatMap(({ handOver }) => (handOver === undefined ? [] : [handOver]));
  }

  viewsOf(part: DebugPart): Record<string, View> {
    const shown = this.#started.map(({ name, views }) => [name, views?.[part]?.()] as const);
    return Object.fromEntries(shown.filter((entry): entry is [string, View] => entry[1] !== undefined));
  }
}
