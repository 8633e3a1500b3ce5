/**
 * The sandbox spec of one principal: the resolved template with the assignment's overrides (wire facts, section 3.4). The
 * daemon creates sandboxes from it; the CLI compares specs to list the principals that a change of a template restarts.
 */
import type { PrincipalAssignment } from "./events.ts";
import type { SandboxSpec } from "./launcher-ipc.ts";
import type { Template } from "./template.ts";

export function sandboxSpecOf(template: Template, assignment: PrincipalAssignment): SandboxSpec {
  const spec = {
    isolation: template.isolation,
    command: nonEmpty(assignment.command_override) ?? template.command ?? [],
    filesystem: template.filesystem,
    namespaces: networkOf(template),
    resources: template.resources,
    security: template.security,
    environment_variables: {
      ...template.environment_variables,
      ...assignment.extra_environment_variables,
    },
    prepend_variables: template.prepend_variables,
    environment_path: assignment.environment_override ?? template.environment,
    payload: { ...template.default_payload, ...assignment.payload },
    roles: template.roles,
    create_dirs: template.create_dirs,
    required_services: requiredServicesOf(template, assignment) ?? template.required_services,
    proxy_services: template.proxy_services,
    secrets: assignment.secrets_override ?? template.secrets,
    egress: nonEmpty(template.egress),
  };
  return Object.fromEntries(Object.entries(spec).filter(([, value]) => value !== undefined)) as SandboxSpec;
}

/** Undefined when there are none. */
export const requiredServicesOf = (
  template: Template,
  assignment: PrincipalAssignment,
): string[] | undefined =>
  nonEmpty(assignment.required_services_override) ?? nonEmpty(template.required_services);

const nonEmpty = <T>(items: T[] | null | undefined): T[] | undefined =>
  items !== undefined && items !== null && items.length > 0 ? items : undefined;

/** A list of hosts limits a program only when every other way out is closed, so it implies a network of its own. */
function networkOf({ namespaces, egress }: Template): Template["namespaces"] {
  return egress === undefined || namespaces?.net !== false ? namespaces : { ...namespaces, net: true };
}
