/**
 * Templates: the program and the contents of a sandbox. `m.bureau.template`, state key = the template's name.
 * The merge rules are the wire's table (section 3.5), one rule a field, all of them in {@link mergeTemplates}.
 */
import * as v from "valibot";
import { AuthorizationPolicySchema, joinPolicies } from "./authorization.ts";
import { EgressEntrySchema } from "./egress-entry.ts";
import { intersectEgress } from "./egress-rules.ts";
import { jsonObject, list, mapOf, unset } from "./parse.ts";
import { DeclaredServiceSchema } from "./proxy-providers.ts";

const names = mapOf(v.string());
const nonNegative = v.pipe(v.number(), v.integer(), v.minValue(0));
const strings = v.optional(list(v.string()));

export const MountSchema = v.object({
  /** Host path; may contain `${VARIABLES}`. Required unless `type` is tmpfs. */
  source: unset(v.string()),
  dest: v.pipe(v.string(), v.startsWith("/", "dest must be an absolute path")),
  type: unset(v.picklist(["bind", "tmpfs"])),
  mode: unset(v.picklist(["ro", "rw"])),
  options: unset(v.string()),
  /** A missing source is skipped; otherwise the start fails. */
  optional: v.optional(v.boolean()),
});
export type Mount = v.InferOutput<typeof MountSchema>;

/** True unshares: the sandbox gets its own. `net: false` shares the host's network. */
export const NamespacesSchema = v.object({
  pid: v.optional(v.boolean()),
  net: v.optional(v.boolean()),
  ipc: v.optional(v.boolean()),
  uts: v.optional(v.boolean()),
});
export const ResourcesSchema = v.object({
  cpu_shares: v.optional(nonNegative),
  memory_limit_mb: v.optional(nonNegative),
  pids_limit: v.optional(nonNegative),
});
/** Calls that the seccomp filter refuses unless a template allows them: each is a field of `security`, off by default. */
export const securityExceptions = [
  "nested_userns", // user namespaces, and mounts, inside the sandbox
  "perf", // perf_event_open
  "netlink", // netlink protocols other than route
] as const;
export type SecurityException = (typeof securityExceptions)[number];

export const SecuritySchema = v.object({
  /** No controlling terminal: no Ctrl-C, no SIGWINCH. */
  new_session: v.optional(v.boolean()),
  die_with_parent: v.optional(v.boolean()),
  no_new_privs: v.optional(v.boolean()),
  nested_userns: v.optional(v.boolean()),
  perf: v.optional(v.boolean()),
  netlink: v.optional(v.boolean()),
});
export const SecretBindingSchema = v.pipe(
  v.object({ key: v.pipe(v.string(), v.minLength(1)), env: unset(v.string()), file: unset(v.string()) }),
  v.check((binding) => binding.env !== undefined || binding.file !== undefined, "a secret needs env or file"),
  v.check(
    ({ file }) => file === undefined || !(/[/\\]/u.test(file) || file === "." || file.startsWith("..")),
    "a secret's file is a bare name",
  ),
);
const OutputCaptureSchema = v.object({
  enabled: v.boolean(),
  /** Nanoseconds (a Go duration). */
  retention: v.optional(nonNegative),
  /** Bytes. */
  max_size: v.optional(nonNegative),
});
/** Zero is unset, as in the reference: for a missing field or 0 the wire's default holds (section 12.1). */
export const HealthCheckSchema = v.pipe(
  v.object({
    /** `http` when unset. */
    type: unset(v.picklist(["http", "socket"])),
    /** A path at the principal's proxy, such as `/http/web/health`. */
    endpoint: unset(v.pipe(v.string(), v.startsWith("/", "a health check's endpoint must be a path"))),
    interval_seconds: v.pipe(v.number(), v.integer(), v.minValue(1)),
    timeout_seconds: v.optional(nonNegative),
    failure_threshold: v.optional(nonNegative),
    grace_period_seconds: v.optional(nonNegative),
  }),
  v.check(
    ({ type, endpoint }) => type === "socket" || endpoint !== undefined,
    "a health check over http needs an endpoint",
  ),
);
export type HealthCheck = v.InferOutput<typeof HealthCheckSchema>;
export const TemplateSchema = v.object({
  description: unset(v.string()),
  /** `standard` (also when unset), or `none`, which Bureau's launcher refuses. */
  isolation: unset(v.picklist(["standard", "none"])),
  inherits: strings,
  command: strings,
  /** A Nix store path. */
  environment: unset(v.string()),
  environment_variables: v.optional(names),
  prepend_variables: v.optional(mapOf(v.array(v.string()))),
  filesystem: v.optional(list(MountSchema)),
  namespaces: v.optional(NamespacesSchema),
  resources: v.optional(ResourcesSchema),
  security: v.optional(SecuritySchema),
  create_dirs: strings,
  roles: v.optional(mapOf(v.array(v.string()))),
  required_credentials: strings,
  secrets: v.optional(list(SecretBindingSchema)),
  credential_ref: unset(v.string()),
  /** Absent: any pipeline. Empty: none. */
  allowed_pipelines: v.optional(v.array(v.string())),
  required_services: strings,
  default_payload: v.optional(jsonObject),
  health_check: v.optional(HealthCheckSchema),
  output_capture: v.optional(OutputCaptureSchema),
  proxy_services: v.optional(mapOf(DeclaredServiceSchema)),
  /** Ours: rules for every principal that is made from the template. A child adds to them and removes none. */
  authorization: v.optional(AuthorizationPolicySchema),
  /**
   * Ours: the hosts that programs may reach through their proxy. Absent: it says nothing, so none unless a parent lists
   * some. A child can only narrow its parents' list.
   */
  egress: v.optional(v.array(EgressEntrySchema)),
  origin: v.optional(jsonObject),
});
export type Template = v.InferOutput<typeof TemplateSchema>;

const dedupe = (items: readonly string[]): string[] => [...new Set(items)];
const union = (parent: string[] = [], child: string[] = []): string[] => dedupe([...parent, ...child]);
const filled = <T>(child: T[] | undefined, parent: T[] | undefined): T[] | undefined =>
  child !== undefined && child.length > 0 ? child : parent;

/** Parents whose key the child does not have, then all of the child's. */
function overlay<T>(parent: T[] = [], child: T[] = [], key: (item: T) => string): T[] {
  const own = new Set(child.map(key));
  return [...parent.filter((item) => !own.has(key(item))), ...child];
}

function mergePrepends(
  parent: Record<string, string[]> = {},
  child: Record<string, string[]> = {},
): Record<string, string[]> {
  const merged: Record<string, string[]> = { ...parent };
  for (const [name, entries] of Object.entries(child))
    merged[name] = dedupe([...entries, ...(Object.hasOwn(parent, name) ? (parent[name] ?? []) : [])]);
  return merged;
}

function intersect(parent: string[] | undefined, child: string[] | undefined): string[] | undefined {
  if (parent === undefined || child === undefined) return child ?? parent;
  return child.filter((pipeline) => parent.includes(pipeline));
}

/** A change of a parent never lets the programs of its children reach more than the child lists. */
const narrow = (parent: string[] | undefined, child: string[] | undefined): string[] | undefined =>
  parent === undefined || child === undefined ? (child ?? parent) : intersectEgress(parent, child);

const mergePolicies = (
  parent: Template["authorization"],
  child: Template["authorization"],
): Template["authorization"] =>
  parent === undefined || child === undefined ? (child ?? parent) : joinPolicies(parent, child);

/** `child` on top of `parent`; the result inherits from no template. Fields that neither sets stay absent. */
export function mergeTemplates(parent: Template, child: Template): Template {
  const merged: Template = {
    description: child.description || parent.description,
    isolation: child.isolation ?? parent.isolation,
    command: filled(child.command, parent.command),
    environment: child.environment || parent.environment,
    environment_variables: { ...parent.environment_variables, ...child.environment_variables },
    prepend_variables: mergePrepends(parent.prepend_variables, child.prepend_variables),
    filesystem: overlay(parent.filesystem, child.filesystem, (mount) => mount.dest),
    namespaces: child.namespaces ?? parent.namespaces,
    resources: child.resources ?? parent.resources,
    security: child.security ?? parent.security,
    create_dirs: union(parent.create_dirs, child.create_dirs),
    roles: { ...parent.roles, ...child.roles },
    required_credentials: union(parent.required_credentials, child.required_credentials),
    secrets: overlay(parent.secrets, child.secrets, (binding) => binding.key),
    credential_ref: child.credential_ref || parent.credential_ref,
    allowed_pipelines: intersect(parent.allowed_pipelines, child.allowed_pipelines),
    required_services: union(parent.required_services, child.required_services),
    default_payload: { ...parent.default_payload, ...child.default_payload },
    health_check: child.health_check ?? parent.health_check,
    output_capture: child.output_capture ?? parent.output_capture,
    proxy_services: { ...parent.proxy_services, ...child.proxy_services },
    authorization: mergePolicies(parent.authorization, child.authorization),
    egress: narrow(parent.egress, child.egress),
    origin: child.origin,
  };
  return withoutUnset(merged);
}

/** Fields whose empty value has a meaning: no pipeline or host at all, or none of the parent's settings. */
const meaningfulWhenEmpty: ReadonlySet<string> = new Set([
  "allowed_pipelines",
  "egress",
  "namespaces",
  "resources",
  "security",
]);

/** Drops fields that are undefined or empty, except where empty has a meaning. */
function withoutUnset(template: Template): Template {
  const entries = Object.entries(template).filter(
    ([name, value]) => value !== undefined && (meaningfulWhenEmpty.has(name) || !isEmpty(value)),
  );
  return Object.fromEntries(entries) as Template;
}

const isEmpty = (value: unknown): boolean =>
  Array.isArray(value)
    ? value.length === 0
    : typeof value === "object" && value !== null && Object.keys(value).length === 0;
