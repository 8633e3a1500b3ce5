/**
 * What `--fix` may do to a host, as data: checks name actions, the plan orders them, the executor applies them. A new
 * repair is a kind here and a case in `apply-action.ts`; nothing else touches the host.
 */
import { canonicalJson } from "@bureau/kit/canonical-json";

export type Action =
  /** Installs a package of the host's distribution. */
  | { readonly kind: "package"; readonly name: string }
  /** Writes a file of root's. */
  | { readonly kind: "file"; readonly path: string; readonly text: string; readonly mode: number }
  /** Lets a file that others write hold these lines as well; see `file-block.ts`. */
  | { readonly kind: "block"; readonly path: string; readonly lines: readonly string[] }
  /** Makes user and groups as the sysusers file says. */
  | { readonly kind: "accounts" }
  | { readonly kind: "member"; readonly user: string; readonly group: string }
  | ({ readonly kind: "folder"; readonly path: string; readonly mode: number } & Ownership)
  /** Copies the build in `from` to the host, root's own. */
  | { readonly kind: "build"; readonly from: string; readonly id: string }
  | { readonly kind: "link"; readonly path: string; readonly target: string; readonly owner: string }
  | { readonly kind: "sysctl"; readonly name: string; readonly value: string }
  | { readonly kind: "apparmor"; readonly path: string }
  /** systemd reads its units again. */
  | { readonly kind: "reload" }
  | { readonly kind: "stop"; readonly units: readonly string[] }
  | { readonly kind: "remove"; readonly path: string }
  /** Makes the machine's key, sealed so that only this machine opens it. */
  | { readonly kind: "seal-key" }
  /** First boot: the machine's account, its key published, its session. */
  | { readonly kind: "join" }
  | { readonly kind: "enable"; readonly unit: string }
  | { readonly kind: "restart"; readonly unit: string }
  | { readonly kind: "start"; readonly unit: string }
  /** Has the tmux server make its socket anew, without ending what runs in it (tmux(1), SIGUSR1). */
  | { readonly kind: "renew-terminal-socket"; readonly path: string }
  /** Lets the host set its clock by the network. */
  | { readonly kind: "ntp" };

export type Ownership = { readonly owner: string; readonly group: string };

/** Later kinds rely on earlier ones: a folder's owner must exist, a unit's program must lie there. */
const order: readonly Action["kind"][] = [
  "package",
  "file",
  "block",
  "accounts",
  "member",
  "folder",
  "build",
  "link",
  "sysctl",
  "apparmor",
  "reload",
  "stop",
  "remove",
  "seal-key",
  "join",
  "enable",
  "renew-terminal-socket",
  "restart",
  "start",
  "ntp",
];

/** An action together with the checks that ask for it. */
export type Step = { readonly action: Action; readonly checks: readonly string[] };

export const actionKey = (action: Action): string => canonicalJson(action);

/**
 * The actions that `wanted` asks for, each once, in the order they must be done; within a kind as they came, so that
 * folders above are made before folders below. Pure.
 */
export function planSteps(
  wanted: readonly { readonly check: string; readonly actions: readonly Action[] }[],
): Step[] {
  const steps = new Map<string, { action: Action; checks: string[] }>();
  for (const { check, actions } of wanted)
    for (const action of actions) {
      const known = steps.get(actionKey(action));
      if (known === undefined) steps.set(actionKey(action), { action, checks: [check] });
      else if (!known.checks.includes(check)) known.checks.push(check);
    }
  const restarted = new Set(
    [...steps.values()].flatMap(({ action }) => (action.kind === "restart" ? [action.unit] : [])),
  );
  return [...steps.values()]
    .filter(({ action }) => action.kind !== "start" || !restarted.has(action.unit))
    .sort((a, b) => order.indexOf(a.action.kind) - order.indexOf(b.action.kind));
}

const octal = (mode: number): string => mode.toString(8).padStart(4, "0");

/** What the action does, for a person. */
export function describeAction(action: Action): string {
  switch (action.kind) {
    case "package":
      return `install the package ${action.name}`;
    case "file":
      return `write ${action.path}`;
    case "block":
      return `add to ${action.path}: ${action.lines.join("; ")}`;
    case "accounts":
      return "make the system user and the groups (systemd-sysusers)";
    case "member":
      return `add ${action.user} to the group ${action.group}`;
    case "folder":
      return `folder ${action.path}, ${action.owner}:${action.group} ${octal(action.mode)}`;
    case "build":
      return `install the programs of build ${action.id}`;
    case "link":
      return `link ${action.path} → ${action.target}`;
    case "sysctl":
      return `set ${action.name} = ${action.value}`;
    case "apparmor":
      return `load the AppArmor profile ${action.path}`;
    case "reload":
      return "systemctl daemon-reload";
    case "stop":
      return `stop ${action.units.join(" ")}`;
    case "remove":
      return `remove ${action.path}`;
    case "seal-key":
      return "make the machine's key and seal it with systemd-creds";
    case "join":
      return "first boot: join the fleet with the bootstrap file";
    case "enable":
      return `enable ${action.unit}`;
    case "restart":
      return `restart ${action.unit}`;
    case "start":
      return `start ${action.unit}`;
    case "renew-terminal-socket":
      return `have tmux make ${action.path} anew`;
    case "ntp":
      return "let the host set its clock by the network (timedatectl set-ntp true)";
  }
}

/** One act, and the checks it is for. */
export type Change = { readonly id: string; readonly what: string };

export const changesOf = (steps: readonly Step[]): Change[] =>
  steps.flatMap(({ action, checks }) => checks.map((id) => ({ id, what: describeAction(action) })));
