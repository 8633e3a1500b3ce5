/** What trust costs: one file for each topic. */
import type { Figure } from "./statistics.ts";
import { benchTrustAuthorization } from "./trust-authorization.ts";

export const benchTrust = async (): Promise<Figure[]> => [...(await benchTrustAuthorization())];
