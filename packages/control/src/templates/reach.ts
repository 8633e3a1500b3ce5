/** What a principal may reach, by its templates: upstreams of its proxy, hosts of `egress`, and whose network it has. */
import type { MatrixSession } from "@bureau/matrix/session";
import type { PrincipalAssignment } from "@bureau/schema/events";
import { sandboxSpecOf } from "@bureau/schema/sandbox-spec";
import { mergeTemplates, type Template } from "@bureau/schema/template";
import { readResolvedTemplate } from "./template-store.ts";

export type Reach = {
  readonly upstreams: readonly {
    readonly name: string;
    readonly upstream: string;
    /** Names of the credentials that the proxy adds. */
    readonly credentials: readonly string[];
  }[];
  readonly egress: readonly string[];
  /** `host`: the program reaches what the host reaches; the proxy limits nothing. */
  readonly network: "own" | "host";
};

/** Asks the rooms as they are now. `problem`: why the templates do not resolve. */
export async function reachOf(
  session: MatrixSession,
  assignment: PrincipalAssignment,
): Promise<Reach | { readonly problem: string }> {
  let merged: Template = {};
  for (const reference of [assignment.template, ...(assignment.extra_inherits ?? [])]) {
    if (reference === "") continue;
    const resolved = await readResolvedTemplate(session, reference);
    if (!resolved.ok) return { problem: resolved.problem };
    merged = mergeTemplates(merged, resolved.template);
  }
  const { proxy_services, egress, namespaces } = sandboxSpecOf(merged, assignment);
  return {
    upstreams: Object.entries(proxy_services ?? {}).map(([name, { upstream, inject_headers }]) => ({
      name,
      upstream,
      credentials: Object.values(inject_headers ?? {}),
    })),
    egress: egress ?? [],
    network: namespaces?.net === false ? "host" : "own",
  };
}
