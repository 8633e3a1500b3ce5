/**
 * Walks a machine's audit events in the order of the room and finds where the chain does not hold. Pure: the caller reads
 * the events, oldest first.
 *
 * A chain proves that no event between two that the reader trusts was removed, changed, moved or added by a party without
 * the machine's token. The party that has it can write another end; the heads that others have seen bound that.
 */
import { hashOfAudit } from "@bureau/kit/audit-chain";
import type { TimelineEvent } from "@bureau/matrix/event";
import { type ChainedAudit, ChainedAuditSchema, type ChainHead } from "@bureau/schema/audit";
import * as v from "valibot";
import { sha256Hex } from "../digest.ts";

const faults = [
  "redacted", // its content was taken away
  "edited", // its content is not what its hash says
  "unchained", // it carries no place in a chain, and chained events came before it
  "gap", // events before it are missing
  "fork", // it continues another event than the one before it, or takes the place of one
  "reordered", // it comes after events that follow it
  "repeated", // the same event again
  "tail-missing", // events after the last one are missing, which the machine or you have seen
] as const;
export type AuditFault = (typeof faults)[number];

export type Finding = {
  readonly fault: AuditFault;
  readonly event_id: string;
  /** Of the event, if it has one; else of the last before it. */
  readonly sequence: number;
  /** For a person. */
  readonly message: string;
};

export type Verified = {
  readonly findings: readonly Finding[];
  /** How many events are in the chain, with those that were reported. */
  readonly events: number;
  /** Events without a chain, before the first: another implementation writes such. */
  readonly unchained: number;
  /** How often a chain began: more than once when the machine lost its state folder, or joined again. */
  readonly chains: number;
  /** The last event; undefined without one. Keep it, and give it to a later verification. */
  readonly head: ChainHead | undefined;
};

type Place = { readonly sequence: number; readonly hash: string };

export class ChainWalk {
  readonly #findings: Finding[] = [];
  /** Of each chain: sequence → hash. Numbers, so that a long chain has room. */
  readonly #chainsSeen = new Map<string, Map<number, string>>();
  /** Of the chain that is walked. */
  #seen = new Map<number, string>();
  #head: ChainHead | undefined;
  #events = 0;
  #unchained = 0;
  #chains = 0;
  /** Redacted or edited events since the last valid event: they explain a gap of that size. */
  #lost = 0;

  next(event: TimelineEvent): void {
    const parsed = v.safeParse(ChainedAuditSchema, event.content);
    if (Object.keys(event.content).length === 0) this.#lose(event, "redacted", "its content was redacted");
    else if (!parsed.success) this.#isUnchained(event);
    else this.#walk(event, parsed.output);
  }

  #walk(event: TimelineEvent, content: ChainedAudit): void {
    this.#events++;
    if (hashOfAudit(event.content, sha256Hex) !== content.hash)
      this.#lose(event, "edited", "its content is not what its hash says", content.sequence);
    else if (content.chain !== this.#head?.chain) this.#begin(event, content);
    else if (content.sequence <= this.#head.sequence) this.#isLate(event, content);
    else this.#continue(event, content, this.#head);
  }

  /** `heads` were seen by others: a heartbeat, or an earlier verification. */
  end(heads: readonly ChainHead[] = []): Verified {
    for (const head of heads) this.#compare(head);
    return {
      findings: this.#findings,
      events: this.#events,
      unchained: this.#unchained,
      chains: this.#chains,
      head: this.#head,
    };
  }

  #begin(event: TimelineEvent, { chain, sequence, hash, previous }: ChainedAudit): void {
    this.#chains++;
    const missing = sequence - 1 - this.#lost;
    if (missing > 0) this.#report(event, "gap", sequence, `the ${missing} events before it are missing`);
    else if (previous !== "" && sequence === 1)
      this.#report(event, "fork", sequence, "it is the first of its chain, and names an event before it");
    this.#seen = this.#chainsSeen.get(chain) ?? new Map();
    this.#chainsSeen.set(chain, this.#seen);
    this.#advance({ chain, sequence, hash });
  }

  #continue(event: TimelineEvent, content: ChainedAudit, head: ChainHead): void {
    const { chain, sequence, previous, hash } = content;
    const missing = sequence - head.sequence - 1;
    if (missing > this.#lost)
      this.#report(
        event,
        "gap",
        sequence,
        `${missing - this.#lost} events between ${head.sequence} and ${sequence} are missing`,
      );
    else if (missing === 0 && previous !== head.hash)
      this.#report(
        event,
        "fork",
        sequence,
        `it does not continue event ${head.sequence} as it stands in the room`,
      );
    this.#advance({ chain, sequence, hash });
  }

  #isLate(event: TimelineEvent, { sequence, hash }: ChainedAudit): void {
    const there = this.#seen.get(sequence);
    if (there === hash) this.#report(event, "repeated", sequence, "the same event is in the room before");
    else if (there === undefined) {
      this.#seen.set(sequence, hash);
      this.#report(event, "reordered", sequence, `it comes after event ${this.#head?.sequence}`);
    } else
      this.#report(
        event,
        "fork",
        sequence,
        `another event with the number ${sequence} is in the room before`,
      );
  }

  #isUnchained(event: TimelineEvent): void {
    if (this.#head === undefined) this.#unchained++;
    else this.#report(event, "unchained", this.#head.sequence, "it has no place in the chain");
  }

  #lose(event: TimelineEvent, fault: AuditFault, message: string, sequence?: number): void {
    this.#lost++;
    this.#report(event, fault, sequence ?? this.#head?.sequence ?? 0, message);
  }

  #advance(head: ChainHead & Place): void {
    this.#seen.set(head.sequence, head.hash);
    this.#head = head;
    this.#lost = 0;
  }

  /** A head of an earlier chain counts too: a new chain does not excuse the end of the one before it. */
  #compare({ chain, sequence, hash }: ChainHead): void {
    const seen = this.#chainsSeen.get(chain);
    const there = seen?.get(sequence);
    if (sequence === 0 || there === hash) return;
    let last = 0;
    for (const one of seen?.keys() ?? []) last = Math.max(last, one);
    if (there !== undefined)
      this.#findings.push({
        fault: "fork",
        event_id: "",
        sequence,
        message: `event ${sequence} differs from the reported event`,
      });
    else if (sequence > last)
      this.#findings.push({
        fault: "tail-missing",
        event_id: "",
        sequence: last,
        message: `the events ${last + 1} to ${sequence} of chain ${chain} are missing: event ${sequence} was seen before`,
      });
  }

  #report(event: TimelineEvent, fault: AuditFault, sequence: number, message: string): void {
    this.#findings.push({ fault, event_id: event.eventId, sequence, message });
  }
}
