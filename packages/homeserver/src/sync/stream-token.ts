/**
 * Tokens of /sync and pagination: `s<stream>` is a position in the durable stream, valid across restarts.
 * Ephemeral data (typing, presence) counts for one run of the server only; its part names that run
 * (`s42.k3f9.7`), and after a restart a client gets the whole ephemeral state again. A fourth number is present when
 * messages to the device are left: the position of the last one it received.
 */
import { invalidParam } from "../http/matrix-error.ts";

export type StreamToken = {
  readonly stream: number;
  readonly run: string;
  readonly ephemeral: number;
  /** The device received messages up to here; `stream` when none are left. */
  readonly toDevice: number;
};

export const formatSyncToken = ({ stream, run, ephemeral, toDevice }: StreamToken): string =>
  `s${stream}.${run}.${ephemeral}${toDevice === stream ? "" : `.${toDevice}`}`;

/** A position for /messages: after the event with this stream. */
export const formatPosition = (stream: number): string => `s${stream}`;

/** Parses either form. M_INVALID_PARAM for anything else. */
export function parseToken(text: string): StreamToken {
  const match = /^s(\d{1,15})(?:\.([a-z0-9]{1,16})\.(\d{1,15})(?:\.(\d{1,15}))?)?$/.exec(text);
  if (match === null)
    throw invalidParam(`${JSON.stringify(text.slice(0, 60))} is not a token of this server`);
  return {
    stream: Number(match[1]),
    run: match[2] ?? "",
    ephemeral: Number(match[3] ?? "0"),
    toDevice: Number(match[4] ?? match[1]),
  };
}
