/** What a subsystem does when another build of the daemon is executed in this process. See `upgrade/become.ts`. */

/** A listening socket this process was started with. */
export type InheritedSocket = {
  readonly fd: number;
  /** This process removes the socket's file; otherwise it is systemd's. */
  readonly isOurs: boolean;
};

/** What one subsystem gives to the next program. */
export type HandedOver = { readonly sockets: readonly InheritedSocket[] };

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
  /** There was no exec, after any step: work continues. In the order of the list. */
  readonly resume?: () => void | Promise<void>;
};
