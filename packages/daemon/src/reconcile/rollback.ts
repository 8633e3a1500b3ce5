/**
 * Which configuration a principal runs: the assigned one, or, while that one is known to fail, the last one that
 * worked. Pure.
 */
import type { RestartPolicy } from "@bureau/schema/events";
import type { WantedSandbox } from "../desired/desired.ts";
import { credentialsOf, specDigest, structureOf } from "../desired/digests.ts";
import { checkNameOf } from "../health/health-check.ts";
import type { GoodSpec, Rejection, SpecRecord } from "./spec-history.ts";

/**
 * Starts that may fail, end in failure, or end within a minute before the previous configuration runs again: about 3 s.
 */
export const TRIAL_FAILURES_MAX = 3;

/** Identifies a configuration with its credentials: with another key, failures so far do not count. */
export const keyOf = ({ digests, healthCheck }: WantedSandbox): string =>
  healthCheck === undefined
    ? `${digests.spec} ${digests.payload}`
    : `${digests.spec} ${digests.payload} ${checkNameOf(healthCheck)}`;

export type Choice = {
  readonly sandbox: WantedSandbox;
  /** A previous configuration exists that a failure rolls back to. */
  readonly onTrial: boolean;
  /** Why `sandbox` is not the assigned one. */
  readonly instead: Rejection | undefined;
  /** It never proved to work, now or before: if it fails, the rollback to it is given up. */
  readonly isDoubtful: boolean;
};

/**
 * Only programs that should always run are rolled back. Work that ends is not: when new work fails, running earlier
 * work again does not help.
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

/** The configuration that worked, with the current credentials, grants and trigger. */
const previous = (asked: WantedSandbox, good: GoodSpec): WantedSandbox => ({
  ...asked,
  spec: good.spec,
  digests: {
    spec: specDigest(good.structure, credentialsOf(asked.digests.spec)),
    payload: good.payload,
  },
  healthCheck: good.healthCheck,
});

/** Another health check makes another configuration, without a restart: the check itself may be wrong. */
export const isSameSpec = (good: GoodSpec, { digests, healthCheck }: WantedSandbox): boolean =>
  good.structure === structureOf(digests.spec) &&
  good.payload === digests.payload &&
  checkNameOf(good.healthCheck) === checkNameOf(healthCheck);

export const goodSpecOf = ({ spec, digests, healthCheck }: WantedSandbox, proved: boolean): GoodSpec => ({
  structure: structureOf(digests.spec),
  payload: digests.payload,
  spec,
  proved,
  ...(healthCheck === undefined ? {} : { healthCheck }),
});
