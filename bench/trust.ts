/** What trust costs: one file for each topic. */
import type { Figure } from "./statistics.ts";
import { benchTrustAudit } from "./trust-audit.ts";
import { benchTrustAuthorization } from "./trust-authorization.ts";
import { benchTrustServices } from "./trust-services.ts";
import { benchTrustStreams } from "./trust-streams.ts";

export const benchTrust = async (): Promise<Figure[]> => [
  ...(await benchTrustAuthorization()),
  ...(await benchTrustServices()),
  ...(await benchTrustStreams()),
  ...(await benchTrustAudit()),
];
