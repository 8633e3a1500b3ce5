/**
 * The messages of daemon and launcher on launcher.sock: sandbox specs, requests, and the launcher's list of
 * sandboxes. Both ends import these schemas. The socket never leaves the machine, so unlike the events these shapes
 * are ours to change; field names follow the wire's where it has one (section 5).
 *
 * The launcher executes requests and reports state; it decides nothing. `list-sandboxes` and `wait` are level triggered:
 * an exit stays in the list until `destroy-sandbox` clears it, so a daemon that was down can still read it.
 */
import * as v from "valibot";
import { GrantSchema } from "./authorization.ts";
import { EgressEntrySchema } from "./egress-entry.ts";
import { jsonObject, list, mapOf, ref } from "./parse.ts";
import { ProxyServiceSchema } from "./proxy-service.ts";
import { parsePrincipalName } from "./refs.ts";
import {
  MountSchema,
  NamespacesSchema,
  ResourcesSchema,
  SecretBindingSchema,
  SecuritySchema,
} from "./template.ts";

const integer = v.pipe(v.number(), v.integer());
const account = ref(parsePrincipalName);
const payload = jsonObject;

/** A resolved template and assignment: everything needed to build one sandbox. */
export const SandboxSpecSchema = v.object({
  isolation: v.optional(v.string()),
  /** Empty: an interactive shell. */
  command: list(v.string()),
  filesystem: v.optional(list(MountSchema)),
  namespaces: v.optional(NamespacesSchema),
  resources: v.optional(ResourcesSchema),
  security: v.optional(SecuritySchema),
  environment_variables: v.optional(mapOf(v.string())),
  prepend_variables: v.optional(mapOf(v.array(v.string()))),
  /** A Nix store path whose bin/ leads PATH; absent: the host's tools, read-only. */
  environment_path: v.optional(v.string()),
  payload: v.optional(payload),
  roles: v.optional(mapOf(v.array(v.string()))),
  create_dirs: v.optional(list(v.string())),
  required_services: v.optional(list(v.string())),
  proxy_services: v.optional(mapOf(ProxyServiceSchema)),
  secrets: v.optional(list(SecretBindingSchema)),
  /** Hosts that the program may reach; absent or empty: none. */
  egress: v.optional(list(EgressEntrySchema)),
});
export type SandboxSpec = v.InferOutput<typeof SandboxSpecSchema>;

/** Credentials and policy of a sandbox's proxy; sent at each start of a proxy. */
const proxyFields = {
  /** Standard base64 of an age file for this machine; absent: a proxy without credentials. */
  encrypted_credentials: v.optional(v.string()),
  /**
   * Name → a sealed bundle of this one key, which replaces the key of that name; empty: the key is removed. Older launchers
   * ignore it: see `merges_keys` of the list.
   */
  credential_keys: v.optional(mapOf(v.string())),
  grants: v.optional(list(GrantSchema)),
  proxy_services: v.optional(mapOf(ProxyServiceSchema)),
  egress: v.optional(list(EgressEntrySchema)),
};

/**
 * Digests that the daemon computes over its request. The launcher only stores them, so that a daemon without any state
 * can compare a running sandbox with the desired one.
 */
export const SandboxDigestsSchema = v.object({
  /** Over all fields whose change needs a new sandbox. */
  spec: v.string(),
  /** Over the payload, whose change does not. */
  payload: v.string(),
});
export type SandboxDigests = v.InferOutput<typeof SandboxDigestsSchema>;

/**
 * Sockets and tokens of a sandbox's required services. The launcher finds a provider's socket itself, so a request cannot
 * name another file.
 */
const SandboxServicesSchema = v.object({
  /** Name of the socket in the sandbox, without `.sock` → the service of this machine that answers there. */
  sockets: mapOf(account),
  /** Role → the bytes of its token. */
  tokens: mapOf(v.instance(Uint8Array)),
});
export type SandboxServices = v.InferOutput<typeof SandboxServicesSchema>;

export const launcherRequests = {
  status: v.object({}),
  /** `since`: the revision of the list that the caller holds; the answer may have only what changed after it. */
  "list-sandboxes": v.object({ since: v.optional(integer) }),
  /**
   * Answers when the revision is no longer `since`, or after `timeout_ms`. `changes`: the caller holds the list of `since`;
   * the answer may have only what changed after it. Older launchers ignore that and answer with the whole list.
   */
  wait: v.object({
    since: integer,
    timeout_ms: v.pipe(integer, v.minValue(0), v.maxValue(600_000)),
    changes: v.optional(v.boolean()),
  }),
  "create-sandbox": v.object({
    principal: account,
    sandbox_spec: SandboxSpecSchema,
    digests: SandboxDigestsSchema,
    /** JSON text of the event that met the start condition; becomes trigger.json. */
    trigger_content: v.optional(v.string()),
    /** Absent: the sandbox requires no service. Older launchers ignore it: see `gives_services` of the list. */
    services: v.optional(SandboxServicesSchema),
    ...proxyFields,
  }),
  /** Replaces the sockets and tokens of a running sandbox. */
  "update-services": v.object({ principal: account, services: SandboxServicesSchema }),
  "destroy-sandbox": v.object({
    principal: account,
    /** At once, with SIGKILL. Otherwise SIGTERM first. */
    force: v.optional(v.boolean()),
    /** Between SIGTERM and SIGKILL. */
    grace_ms: v.optional(v.pipe(integer, v.minValue(0), v.maxValue(600_000))),
  }),
  "signal-sandbox": v.object({ principal: account, signal: v.pipe(integer, v.minValue(1), v.maxValue(64)) }),
  "update-payload": v.object({ principal: account, payload, payload_digest: v.string() }),
  /** `spec_digest`: of the configuration with these credentials, when they are others than the proxy had. */
  "restart-proxy": v.object({
    principal: account,
    spec_digest: v.optional(v.string()),
    ...proxyFields,
  }),
  /**
   * Replace the launcher by the one of that build, which must be complete. Answers when the trial begins; `status` has the
   * result.
   */
  "exec-update": v.object({ programs_dir: v.string(), request_id: v.string() }),
  /** End that process, the daemon, unless `watched-ok` comes before the deadline. */
  "watch-daemon": v.object({
    pid: v.pipe(integer, v.minValue(1)),
    start_ticks: integer,
    deadline_ms: v.pipe(integer, v.minValue(0), v.maxValue(600_000)),
  }),
  "watched-ok": v.object({ pid: integer }),
  /** The last lines of the sandbox's output; also of an ended sandbox. */
  "capture-output": v.object({
    principal: account,
    lines: v.pipe(integer, v.minValue(1), v.maxValue(50_000)),
  }),
} as const;
export type LauncherAction = keyof typeof launcherRequests;
export type LauncherRequest<Name extends LauncherAction> = v.InferInput<(typeof launcherRequests)[Name]>;

export const SandboxExitSchema = v.object({
  /** 0–255; 128+n for signal n; 137 also when it was forced, −1 when it is unknown (the tmux server died). */
  code: integer,
  /** `exited with 3`, `killed by SIGKILL`, `lost: …`. */
  description: v.string(),
  /** The last lines of output, when the code is not 0. */
  output: v.optional(v.string()),
  /** Milliseconds since the epoch. */
  at: integer,
});
export type SandboxExit = v.InferOutput<typeof SandboxExitSchema>;

/** Which limits of sandboxes are enforced. */
export const LimitsFactSchema = v.object({
  /**
   * `enforced`: memory, processes and share of the processor. `partly`: some of them. `grouped`: none of them, but all
   * processes of a sandbox end together. `none`: no control groups.
   */
  level: v.picklist(["enforced", "partly", "grouped", "none"]),
  /** The missing limits and the reason, unless all are enforced. */
  reason: v.optional(v.string()),
});
export type LimitsFact = v.InferOutput<typeof LimitsFactSchema>;

/**
 * The layers of a sandbox, and whether each holds, as the kernel reports it for the running program. A layer that a template
 * shares or lifts does not hold.
 */
const SandboxLayersSchema = v.object({
  /** A seccomp filter in addition to those of the host's programs. */
  seccomp: v.boolean(),
  no_new_privs: v.boolean(),
  no_capabilities: v.boolean(),
  user_namespace: v.boolean(),
  pid_namespace: v.boolean(),
  mount_namespace: v.boolean(),
  network_namespace: v.boolean(),
  ipc_namespace: v.boolean(),
  uts_namespace: v.boolean(),
  cgroup_namespace: v.boolean(),
  /** The host's keys are not listed inside. */
  keys_hidden: v.boolean(),
});
export type SandboxLayers = v.InferOutput<typeof SandboxLayersSchema>;

export const SandboxConfinementSchema = v.object({
  layers: SandboxLayersSchema,
  /** Exceptions of the seccomp filter from the template, such as `nested_userns`. */
  exceptions: v.array(v.string()),
  /** As it was created; absent from older launchers. */
  limits: v.optional(LimitsFactSchema),
});
export type SandboxConfinement = v.InferOutput<typeof SandboxConfinementSchema>;

const SandboxStatusSchema = v.object({
  principal: account,
  digests: SandboxDigestsSchema,
  /** `exited`: the program has ended; its record stays until destroy-sandbox. */
  state: v.picklist(["running", "exited"]),
  exit: v.optional(SandboxExitSchema),
  /** Pid of the sandboxed program on the host. */
  pid: v.optional(integer),
  proxy: v.object({ state: v.picklist(["running", "dead"]), pid: v.optional(integer) }),
  /** Milliseconds since the epoch. */
  started_at: integer,
  /** Path of the build whose programs it sees. */
  programs_dir: v.optional(v.string()),
  /** Absent when the program ended before it could be examined. */
  confinement: v.optional(SandboxConfinementSchema),
});
export type SandboxStatus = v.InferOutput<typeof SandboxStatusSchema>;

const SandboxListSchema = v.object({
  /** Grows by one with every change of a sandbox. A restarted launcher begins at a random one. */
  revision: integer,
  /**
   * Present: `sandboxes` has only those that changed after this revision, which the caller named. Absent: `sandboxes` is
   * the whole list, because the caller named no revision, this launcher does not know it, or too much has changed since.
   */
  since: v.optional(integer),
  sandboxes: list(SandboxStatusSchema),
  /** With `since`: principals that the list had, and has no longer. */
  removed: v.optional(v.array(account)),
  /** Principals whose sandbox is being created or cleared, always all; they do not change the revision. */
  creating: v.optional(v.array(account)),
  /** Of new sandboxes; absent from older launchers. */
  limits: v.optional(LimitsFactSchema),
  /** Sandboxes get the sockets and tokens of services; absent from older launchers. */
  gives_services: v.optional(v.boolean()),
  /** Takes `credential_keys`, and `spec_digest` in `restart-proxy`; absent from older launchers. */
  merges_keys: v.optional(v.boolean()),
});
export type SandboxList = v.InferOutput<typeof SandboxListSchema>;

export const launcherResponses = {
  status: v.object({
    version: v.string(),
    pid: integer,
    /** The machine's age recipient, `age1…`. */
    public_key: v.string(),
    /** `file`: the key is in a 0600 file. */
    key_protection: v.picklist(["file", "systemd-creds"]),
    sandboxes: integer,
    started_at: integer,
    /** Path of the build it runs from; the SHA-256 of its program there, unless it runs from sources. */
    programs_dir: v.string(),
    sha256: v.optional(v.string()),
    runtime: v.string(),
    /** Why the last `exec-update` left this build running. */
    exec_fault: v.optional(v.string()),
    /** Pid of the daemon that was killed because `watched-ok` did not come in time. */
    ended_daemon: v.optional(integer),
  }),
  "list-sandboxes": SandboxListSchema,
  wait: SandboxListSchema,
  "create-sandbox": v.object({ pid: v.optional(integer), proxy_pid: integer }),
  "destroy-sandbox": v.object({
    exit: v.optional(SandboxExitSchema),
  }),
  "signal-sandbox": v.undefined(),
  "update-services": v.undefined(),
  /** `signalled`: the program handles SIGHUP and was sent one. */
  "update-payload": v.object({ signalled: v.boolean() }),
  "restart-proxy": v.object({ proxy_pid: integer }),
  "exec-update": v.undefined(),
  "watch-daemon": v.undefined(),
  "watched-ok": v.undefined(),
  "capture-output": v.object({
    output: v.string(),
    /** False: the sandbox has ended and these are its last lines. */
    live: v.boolean(),
  }),
} as const satisfies Record<LauncherAction, v.GenericSchema>;
export type LauncherResponse<Name extends LauncherAction> = v.InferOutput<(typeof launcherResponses)[Name]>;
