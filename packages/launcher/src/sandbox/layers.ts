/**
 * Reports which layers of confinement a program has, from the kernel's view of the running process, not from the request.
 * A layer that cannot be read counts as absent.
 */
import { readFileSync, readlinkSync } from "node:fs";
import { mountsOf } from "@bureau/os/mounts";
import type { SandboxLayers } from "@bureau/schema/launcher-ipc";

const NAMESPACES = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] as const;

/** `program` is a process of the sandbox, `outside` one of the host that the sandbox was started from. */
export function layersOf(program: number, outside: number, hidden: readonly string[]): SandboxLayers {
  const inside = statusOf(program);
  const own = (kind: (typeof NAMESPACES)[number]): boolean => {
    const namespace = namespaceOf(program, kind);
    return namespace !== undefined && namespace !== namespaceOf(outside, kind);
  };
  const points = new Set(mountsOf(program).map(({ point }) => point));
  return {
    seccomp: hasFilterOfItsOwn(inside, statusOf(outside)),
    no_new_privs: inside.get("NoNewPrivs") === "1",
    no_capabilities: ["CapEff", "CapPrm", "CapBnd"].every((set) => /^0+$/.test(inside.get(set) ?? "")),
    user_namespace: own("user"),
    pid_namespace: own("pid"),
    mount_namespace: own("mnt"),
    network_namespace: own("net"),
    ipc_namespace: own("ipc"),
    uts_namespace: own("uts"),
    cgroup_namespace: own("cgroup"),
    keys_hidden: points.size > 0 && hidden.every((path) => points.has(path)),
  };
}

/** Pure. Filters are inherited: only a filter that is absent outside is the sandbox's. */
export function hasFilterOfItsOwn(
  inside: ReadonlyMap<string, string>,
  outside: ReadonlyMap<string, string>,
): boolean {
  const FILTERING = "2";
  // Kernels before 5.9 do not count filters.
  const count = (status: ReadonlyMap<string, string>): number =>
    Number(status.get("Seccomp_filters") ?? (status.get("Seccomp") === FILTERING ? 1 : 0));
  return inside.get("Seccomp") === FILTERING && outside.has("Seccomp") && count(inside) > count(outside);
}

/** The fields of /proc/<pid>/status; empty when the process is gone. */
function statusOf(pid: number): Map<string, string> {
  try {
    return parseStatus(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch {
    return new Map();
  }
}

export const parseStatus = (text: string): Map<string, string> =>
  new Map(
    text.split("\n").flatMap((line) => {
      const colon = line.indexOf(":");
      return colon < 0 ? [] : [[line.slice(0, colon), line.slice(colon + 1).trim()] as const];
    }),
  );

function namespaceOf(pid: number, kind: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/${kind}`);
  } catch {
    return undefined;
  }
}
