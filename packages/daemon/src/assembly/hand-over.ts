/** What a subsystem does when another build of the daemon is executed in this process. See `upgrade/become.ts`. */
import type { HandedStreams, InheritedStreams } from "@bureau/os/streams";
import type { NamedSocket } from "@bureau/os/systemd";

/** What this process was started with. */
export type Inherited = {
  /** Listening sockets, by name. */
  readonly sockets: ReadonlyMap<string, NamedSocket>;
  readonly streams: InheritedStreams;
};

/** What one subsystem gives to the next program. */
export type HandedOver = { readonly sockets: readonly NamedSocket[] };

/** The steps of one subsystem. `become` takes a step of every subsystem before the next step. */
export type HandOver = {
  /**
   * Finishes what is under way and starts nothing new. Returns the reason when it cannot. Subsystems pause in the reverse
   * order of their list: what others use pauses last.
   */
  readonly pause?: (options: { readonly leavesMessages: boolean }) => Promise<string | undefined>;
  /** Stops using what the next program takes, and gives it. Returns the reason when it cannot. */
  readonly give?: () => Promise<HandedOver | string>;
  /** Writes what the next program reads. The last step before exec; it never throws. */
  readonly keep?: () => void;
  /**
   * Saves open connections. Called in the same turn of the event loop as exec, when the next program takes them over. Only
   * one subsystem has it: a process has one set of streams.
   */
  readonly streams?: () => HandedStreams;
  /** There was no exec, after any step: work continues. In the order of the list. */
  readonly resume?: () => void | Promise<void>;
};
