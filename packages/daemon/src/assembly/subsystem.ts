/**
 * What the daemon is made of: named subsystems, started in the order of one list (`daemon.ts`). A subsystem states which
 * other ones it needs, is given their parts and the context, and owns its own state. Changes travel through the hub.
 *
 * To add one: write its module in `subsystems/`, and add it to the list. Its position must be behind what it needs; the
 * compiler checks that.
 */
import type { Runtime } from "@bureau/kit/runtime";
import type { MatrixSession } from "@bureau/matrix/session";
import type { DebugPart } from "@bureau/schema/observe-wire";
import type { PrincipalName, UserId } from "@bureau/schema/refs";
import type { DaemonConfig } from "../daemon-config.ts";
import type { BecomeOptions } from "../upgrade/become.ts";
import type { ChangeHub } from "./change-hub.ts";
import type { HandOver, Inherited } from "./hand-over.ts";

/** What every subsystem is given: the machine's identity, and ways to reach the process around it. */
export type DaemonContext = Runtime & {
  readonly config: DaemonConfig;
  readonly session: MatrixSession;
  /** The machine's own. */
  readonly userId: UserId;
  /** Of a principal in the machine's fleet. */
  readonly userOf: (name: PrincipalName) => UserId;
  readonly hub: ChangeHub;
  /** What systemd, or an earlier build in this process, passed to it. */
  readonly inherited: Inherited;
  /** Receives a line on the connection to the homeserver, for people. */
  readonly onStatus: (line: string) => void;
  /**
   * Executes the daemon of the build at `path` in this process. Returns only when that failed, with the reason; then this
   * daemon continues.
   */
  readonly become: (path: string, options?: BecomeOptions) => Promise<string>;
  /** What every subsystem shows of `part`, by the subsystem's name. */
  readonly viewsOf: (part: DebugPart) => Readonly<Record<string, View>>;
};

/** Plain JSON for `bureau debug`. Never credentials, payloads, environments or tokens. */
export type View = Readonly<Record<string, unknown>>;

export type Started<Part> = {
  /** What subsystems further down the list are given. */
  readonly part: Part;
  /** Each works until `signal` aborts. One that rejects ends the daemon. They begin once every subsystem has started. */
  readonly loops?: readonly ((signal: AbortSignal) => Promise<unknown>)[];
  /** What `bureau debug` shows of it. */
  readonly views?: { readonly [Key in DebugPart]?: () => View };
  /** Its share in the exec of another build. */
  readonly handOver?: HandOver;
  /** Called when the daemon stops, after the loops were told to. */
  readonly stop?: () => void | Promise<void>;
};

export type Subsystem<Name extends string, Needs extends object, Part> = {
  readonly name: Name;
  /** The subsystems whose parts `start` is given. */
  readonly needs: { readonly [Key in keyof Needs]: true };
  start(needs: Needs, context: DaemonContext): Started<Part> | Promise<Started<Part>>;
};

/** Infers a subsystem's type from its fields. */
export const subsystem = <const Name extends string, Needs extends object, Part>(
  one: Subsystem<Name, Needs, Part>,
): Subsystem<Name, Needs, Part> => one;
