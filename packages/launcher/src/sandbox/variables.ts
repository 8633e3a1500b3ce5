/**
 * Expands `${NAME}` in templates. Only the names of the wire are defined (section 3.5). Any other is an error, because a
 * mount of a path that still contains `${…}` is never intended. `$${` is a literal `${`.
 */
import { BureauError } from "@bureau/kit/errors";
import type { Layout } from "@bureau/os/layout";
import { insidePaths } from "@bureau/schema/inside-paths";
import type { SandboxSpec } from "@bureau/schema/launcher-ipc";
import type { FleetLocalpart, MachineLocalpart, PrincipalName, ServerName } from "@bureau/schema/refs";
import { PANE_TERM } from "../terminal/tmux.ts";

export type Variables = Readonly<Record<string, string>>;

export function templateVariables(
  host: {
    readonly layout: Layout;
    readonly machine: MachineLocalpart;
    readonly serverName: ServerName;
    readonly fleet: FleetLocalpart;
  },
  principal: PrincipalName,
  payload: SandboxSpec["payload"],
): Variables {
  const fromPayload: Record<string, string> = {};
  for (const name of ["PROJECT", "WORKTREE_PATH"]) {
    const value = payload?.[name];
    if (typeof value === "string" && value !== "") fromPayload[name] = value;
  }
  return {
    WORKSPACE_ROOT: host.layout.workspaceRoot,
    CACHE_ROOT: host.layout.cacheRoot,
    PROXY_SOCKET: insidePaths.proxySocket,
    TERM: PANE_TERM,
    MACHINE_NAME: host.machine,
    SERVER_NAME: host.serverName,
    PRINCIPAL_NAME: principal,
    FLEET: host.fleet,
    ...fromPayload,
  };
}

/** `where` names the field in errors. @throws BureauError for a variable that is not set */
export function expandVariables(text: string, variables: Variables, where: string): string {
  return text.replace(/\$\$\{|\$\{([^}]*)\}/g, (match, name: string | undefined) => {
    if (match === "$${") return "${";
    const value = name !== undefined && Object.hasOwn(variables, name) ? variables[name] : undefined;
    if (value !== undefined) return value;
    throw new BureauError("invalid-input", `Unknown variable "${match}" in ${where}`, {
      hint:
        name === "PROJECT" || name === "WORKTREE_PATH"
          ? `give the assignment's payload a ${name}`
          : `known are ${Object.keys(variables).join(", ")}; write $\${ for a literal \${`,
    });
  });
}
