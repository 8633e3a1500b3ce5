/** One upstream of a principal, as launcher and proxy get it: every field is spelled out (wire facts, section 3.5). */
import * as v from "valibot";
import { jsonObject, list, mapOf, unset } from "./parse.ts";

export const upstreamUrl = v.pipe(
  v.string(),
  v.regex(/^https?:\/\//u, "upstream must be an http or https URL"),
);

export const proxyServiceFields = {
  /** Header name → name of the credential that becomes its value. */
  inject_headers: v.optional(mapOf(v.string())),
  strip_headers: v.optional(list(v.string())),
  /**
   * In Authorization only: `bearer` puts "Bearer " before the credential; `basic:USER`, an addition of ours, makes the
   * credential the password of USER.
   */
  auth_scheme: unset(v.string()),
  response_interceptors: v.optional(list(jsonObject)),
};

export const ProxyServiceSchema = v.object({ upstream: upstreamUrl, ...proxyServiceFields });
export type ProxyService = v.InferOutput<typeof ProxyServiceSchema>;
