/** What trust costs: one file for each topic. */
import type { Figure } from "./statistics.ts";
import { benchTrustAuthorization } from "./trust-authorization.ts";
import { benchTrustServices } from "./trust-services.ts";

export const benchTrust = async (): Promise<Figure[]> => [
  ...(await benchTrustAuthorization()),
  ...(await benchTrustServices()),
];
