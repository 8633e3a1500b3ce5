/** How the kernel or AppArmor lets bubblewrap make namespaces, where it forbids that. */
import { systemHost } from "@bureau/os/layout";
import type { Action } from "../resources/registry.ts";

const { sysctlFile, apparmorProfile } = systemHost;

const apparmorText = `# Lets bubblewrap make user namespaces. Written by bureau machine doctor --fix.
abi <abi/4.0>,
include <tunables/global>

profile bureau-bwrap /usr/bin/bwrap flags=(unconfined) {
  userns,
}
`;

/** Settings that forbid it with the value 0, and the value that allows it. */
const limits = [
  { file: "kernel/unprivileged_userns_clone", name: "kernel.unprivileged_userns_clone", value: "1" },
  { file: "user/max_user_namespaces", name: "user.max_user_namespaces", value: "15000" },
] as const;

/** `sysctl` reads a file of /proc/sys. Empty when another reason forbids it. */
export function namespaceRemedies(kernel: {
  readonly sysctl: (file: string) => string | undefined;
}): Action[] {
  const forbidden = limits.filter(({ file }) => kernel.sysctl(file) === "0");
  if (forbidden.length > 0) {
    const text = forbidden.map(({ name, value }) => `${name} = ${value}\n`).join("");
    return [
      {
        kind: "file",
        path: sysctlFile,
        text: `# Lets bubblewrap make sandboxes. Written by bureau machine doctor --fix.\n${text}`,
        mode: 0o644,
      },
      ...forbidden.map(({ name, value }) => ({ kind: "sysctl", name, value }) as const),
    ];
  }
  if (kernel.sysctl("kernel/apparmor_restrict_unprivileged_userns") === "1")
    return [
      { kind: "file", path: apparmorProfile, text: apparmorText, mode: 0o644 },
      { kind: "apparmor", path: apparmorProfile },
    ];
  return [];
}
