/** A program's environment: the template's variables and Bureau's own, none of the host's. */
import { BureauError } from "@bureau/kit/errors";
import { insidePaths } from "@bureau/schema/inside-paths";
import type { SandboxSpec } from "@bureau/schema/launcher-ipc";
import { type PrincipalName, principalType } from "@bureau/schema/refs";
import { PANE_TERM } from "../terminal/tmux.ts";
import { expandVariables, type Variables } from "./variables.ts";

const DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin";

/**
 * Pure. `secrets`: the values of bindings with an `env`. They override the template's variables. Bureau's own variables
 * override both, so that no template can give a program another principal's name.
 */
export function sandboxEnvironment(
  spec: SandboxSpec,
  principal: PrincipalName,
  variables: Variables,
  secrets: Readonly<Record<string, string>>,
): Record<string, string> {
  const environment: Record<string, string> = {
    HOME: insidePaths.home,
    TERM: PANE_TERM,
    LANG: "C.UTF-8",
    PATH: DEFAULT_PATH,
  };
  for (const [name, value] of Object.entries(spec.environment_variables ?? {})) {
    checkName(name);
    environment[name] = expandVariables(value, variables, `environment variable "${name}"`);
  }
  if (spec.environment_path !== undefined)
    environment["PATH"] = `${spec.environment_path}/bin:${environment["PATH"]}`;
  for (const [name, entries] of Object.entries(spec.prepend_variables ?? {})) {
    checkName(name);
    const expanded = entries.map((entry) =>
      expandVariables(entry, variables, `prepended variable "${name}"`),
    );
    environment[name] = [...expanded, environment[name] ?? ""].filter((part) => part !== "").join(":");
  }
  environment["PATH"] = `${environment["PATH"]}:${insidePaths.programs}/bin`;
  for (const name of Object.keys(secrets)) checkName(name);
  return { ...environment, ...secrets, ...bureauNames(principal, variables) };
}

function bureauNames(principal: PrincipalName, variables: Variables): Record<string, string> {
  return {
    BUREAU_SANDBOX: "1",
    BUREAU_PROXY_SOCKET: insidePaths.proxySocket,
    BUREAU_MACHINE_NAME: variables["MACHINE_NAME"] ?? "",
    BUREAU_SERVER_NAME: variables["SERVER_NAME"] ?? "",
    BUREAU_PRINCIPAL_NAME: principal,
    BUREAU_FLEET: variables["FLEET"] ?? "",
    ...(principalType(principal) === "service" ? { BUREAU_SERVICE_SOCKET: insidePaths.serviceSocket } : {}),
  };
}

function checkName(name: string): void {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
    throw new BureauError("invalid-input", `"${name}" is not the name of an environment variable`);
}
