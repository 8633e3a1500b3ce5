/**
 * Which configuration a principal runs: what is asked for, or the last one that worked while what is asked for is known
 * not to. Pure.
 */
import { canonicalJson } from "@bureau/kit/canonical-json";
import type { RestartPolicy } from "@bureau/schema/events";
import type { WantedSandbox } from "../desired/desired.ts";
import { credentialsOf, specDigest, structureOf } from "../desired/digests.ts";
import type { GoodSpec, Rejection, SpecRecord } from "./spec-history.ts";

/** Starts that may fail, end in failure, or end in less than a minute, before what worked until then runs again: about three seconds. */
export const TRIAL_FAILURES_MAX = 3;

/** Names a configuration with its credentials: with another one, failures so far count for nothing. */
export const keyOf = ({ digests, healthCheck }: WantedSandbox): string =>
  [digests.spec, digests.payload, ...(healthCheck === undefined ? [] : [canonicalJson(healthCheck)])].join(
    " ",
  );

export type Choice = {
  readonly sandbox: WantedSandbox;
  /** There is one to go back to, should this fail. */
  readonly onTrial: boolean;
  /** Why `sandbox` is not what was asked for. */
  readonly instead: Rejection | undefined;
  /** It has never proved to work, here or before: should it fail, going back to it was a mistake. */
  readonly isDoubtful: boolean;
};

/**
 * Only what should always run is ever rolled back. Work that ends is work: when a new piece of it fails, doing an
 * earlier one once more is not what was meant.
 */
export function chooseSandbox(
  asked: WantedSandbox,
  policy: RestartPolicy,
  { good, rejected }: SpecRecord,
): Choice {
  if (good === undefined || policy !== "always")
    return { sandbox: asked, onTrial: false, instead: undefined, isDoubtful: false };
  if (rejected?.key === keyOf(asked))
    return {
      sandbox: previous(asked, good),
      onTrial: false,
      instead: rejected,
      isDoubtful: !good.proved,
    };
  return {
    sandbox: asked,
    onTrial: !isSameSpec(good, asked),
    instead: undefined,
    isDoubtful: false,
  };
}

/** What worked, with the credentials, grants and trigger of now. */
const previous = (asked: WantedSandbox, good: GoodSpec): WantedSandbox => ({
  ...asked,
  spec: good.spec,
  digests: {
    spec: specDigest(good.structure, credentialsOf(asked.digests.spec)),
    payload: good.payload,
  },
  healthCheck: good.healthCheck,
});

/** Another health check is another configuration, though it needs no restart: it may be the one that is wrong. */
export const isSameSpec = (good: GoodSpec, { digests, healthCheck }: WantedSandbox): boolean =>
  good.structure === structureOf(digests.spec) &&
  good.payload === digests.payload &&
  canonicalJson(good.healthCheck ?? null) === canonicalJson(healthCheck ?? null);

export const goodSpecOf = ({ spec, digests, healthCheck }: WantedSandbox, proved: boolean): GoodSpec => ({
  structure: structureOf(digests.spec),
  payload: digests.payload,
  spec,
  proved,
  ...(healthCheck === undefined ? {} : { healthCheck }),
});
