/**
 * Tokens of /sync and pagination: `s<stream>` is a position in the durable stream, so it outlives restarts.
 * Ephemeral data (typing, presence) counts for one run of the server only; its part names that run
 * (`s42.k3f9.7`), and after a restart a client simply gets the ephemeral state anew. A fourth number is there when
 * messages to the device are left over: how far those reach that it was given.
 */
import { invalidParam } from "../http/matrix-error.ts";

export type StreamToken = {
  readonly stream: number;
  readonly run: string;
  readonly ephemeral: number;
  /** Messages to the device up to here were given; `stream` when none were left over. */
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
