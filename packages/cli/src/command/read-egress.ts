/** `--https-proxy`, `--no-proxy`, `--ca-certs`: how an installation's programs reach the network. */
import { resolve } from "node:path";
import { messageOf } from "@bureau/kit/errors";
import { type EgressSettings, parseProxy, readCertificates } from "@bureau/os/egress";
import { UsageError } from "./command.ts";
import type { EgressValues } from "./shared-flags.ts";

/** The given settings; an empty value removes one. @throws UsageError */
export function readEgress(flags: EgressValues): {
  readonly [name in keyof EgressSettings]: string | undefined;
} {
  const read = (name: keyof EgressValues, parse: (value: string) => string): string | undefined => {
    const typed = flags[name];
    try {
      return typed === undefined || typed === "" ? typed : parse(typed);
    } catch (error) {
      throw new UsageError(`--${name}: ${messageOf(error)}`, "--help describes it");
    }
  };
  return {
    httpsProxy: read("https-proxy", parseProxy),
    noProxy: flags["no-proxy"],
    caCerts: read("ca-certs", (path) => {
      readCertificates(path);
      return resolve(path);
    }),
  };
}
