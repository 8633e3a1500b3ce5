/**
 * The templates every namespace starts with. `base`, `base-networked`, `agent-base` and `service-base` are the
 * reference's names and meaning; `agent`, `service`, `directory` and `greeter` are Bureau's own.
 */
import { hostToolFolders, hostToolSettings } from "@bureau/schema/host-tools";
import { insidePaths } from "@bureau/schema/inside-paths";
import type { Mount, Template } from "@bureau/schema/template";

/** Mounted where the host has it. */
const ifPresent = (path: string): Mount => ({ source: path, dest: path, mode: "ro", optional: true });

/** Templates in an order in which each one's parents come first. `room` is `<namespace>/template`. */
export function builtinTemplates(room: string): Readonly<Record<string, Template>> {
  const fromProxy = {
    BUREAU_PROXY_SOCKET: "${PROXY_SOCKET}",
    BUREAU_MACHINE_NAME: "${MACHINE_NAME}",
    BUREAU_SERVER_NAME: "${SERVER_NAME}",
  };
  // Our launcher makes the folder. Optional for launchers that do not: they start the principal without it.
  const kept: Mount = {
    source: "${WORKSPACE_ROOT}/home/${PRINCIPAL_NAME}",
    dest: "/workspace",
    mode: "rw",
    optional: true,
  };
  // People attach to agents: Ctrl-C and a changed window reach the program.
  const interactive = { new_session: false, die_with_parent: true, no_new_privs: true };
  return {
    base: {
      description: "Namespaces of its own, no network, the host's tools read-only",
      namespaces: { pid: true, net: true, ipc: true, uts: true },
      security: { new_session: true, die_with_parent: true, no_new_privs: true },
      // Bureau's launcher adds tools and a home itself; the reference's launcher mounts only what the template lists.
      filesystem: [
        ...[...hostToolFolders, ...hostToolSettings].map(ifPresent),
        { dest: "/tmp", type: "tmpfs" },
      ],
      create_dirs: ["/tmp", "/var/tmp", insidePaths.run, "/workspace"],
      environment_variables: { HOME: "/workspace", TERM: "xterm-256color" },
    },
    "base-networked": {
      description: "base, on the host's network",
      inherits: [`${room}:base`],
      namespaces: { pid: true, net: false, ipc: true, uts: true },
      filesystem: ["/etc/resolv.conf", "/etc/nsswitch.conf"].map(ifPresent),
    },
    "agent-base": {
      description: "base-networked, with the names a program needs to find its proxy",
      inherits: [`${room}:base-networked`],
      security: interactive,
      environment_variables: fromProxy,
    },
    "service-base": {
      description: "base-networked, for programs that others call",
      inherits: [`${room}:base-networked`],
      environment_variables: fromProxy,
    },
    agent: {
      description: "An agent without network: it reaches the world through its proxy; /workspace is kept",
      inherits: [`${room}:base`],
      security: interactive,
      environment_variables: fromProxy,
      filesystem: [kept],
    },
    service: {
      description: `A service without network; it listens on ${insidePaths.serviceSocket}; /workspace is kept`,
      inherits: [`${room}:base`],
      environment_variables: fromProxy,
      filesystem: [kept],
    },
    directory: {
      description: "The directory service: lists the services and machines of the fleet",
      inherits: [`${room}:service`],
      command: ["bureau-service-directory"],
    },
    greeter: {
      description: "The first agent: greets in a room and answers messages there",
      inherits: [`${room}:agent`],
      command: ["bureau-greeter"],
    },
  };
}
