import { expect, test } from "bun:test";
import { parsePrincipalName } from "@bureau/schema/refs";
import { parseLauncherFlags } from "./launcher-config.ts";
import { proxyStartOf } from "./proxy-start.ts";

const principal = parsePrincipalName("agent/demo");

function homeserverOf(own: string, sealed: string | undefined): string | undefined {
  const config = parseLauncherFlags(["--machine-name", "acme/fleet/prod/machine/box", "--homeserver", own]);
  if (config === "version") throw new Error("it printed a version");
  const bundle = { MATRIX_TOKEN: "t", ...(sealed === undefined ? {} : { MATRIX_HOMESERVER_URL: sealed }) };
  return proxyStartOf(config, principal, {}, bundle).matrix_homeserver_url;
}

test("a proxy uses the homeserver of the credential bundle, else its machine's", () => {
  expect(homeserverOf("http://h:6167", "https://other")).toBe("https://other");
  expect(homeserverOf("http://h:6167", undefined)).toBe("http://h:6167");
});

test("a machine with its homeserver on a socket sends no principal's token to a port", () => {
  expect(homeserverOf("unix:/run/hs.sock", "http://127.0.0.1:6167")).toBe("unix:/run/hs.sock");
});
