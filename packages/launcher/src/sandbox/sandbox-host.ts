/** What all actions on sandboxes use: the host's configuration and the launcher's parts. Owns no resource. */
import type { Runtime } from "@bureau/kit/runtime";
import { fleetRunDir, type SandboxPaths, sandboxPaths } from "@bureau/os/layout";
import type { PrincipalName } from "@bureau/schema/refs";
import type { MachineKey } from "../keys.ts";
import type { LauncherConfig } from "../launcher-config.ts";
import type { ControlGroups } from "../limits/control-groups.ts";
import type { ProxyProcesses } from "../proxy-process.ts";
import type { Tmux } from "../terminal/tmux.ts";
import type { HostTool } from "./bwrap-arguments.ts";
import type { ExitWatch } from "./exit-watch.ts";
import type { MountPolicy } from "./mount-policy.ts";
import type { SandboxTable } from "./sandbox-table.ts";
import type { SandboxPrograms } from "./script.ts";

export type SandboxHost = Pick<Runtime, "clock" | "log"> & {
  readonly config: LauncherConfig;
  readonly key: MachineKey;
  readonly tmux: Tmux;
  readonly proxies: ProxyProcesses;
  readonly table: SandboxTable;
  readonly watch: ExitWatch;
  readonly mountPolicy: MountPolicy;
  readonly groups: ControlGroups;
  readonly programs: SandboxPrograms;
  readonly hostTools: readonly HostTool[];
  /** Retries, under the principal's lock, to clear a sandbox that could not be cleared now. */
  readonly clearLater: (principal: PrincipalName) => void;
  /** Aborts when the launcher is told to stop. */
  readonly stopping: AbortSignal;
};

export const pathsOf = (host: Pick<SandboxHost, "config">, principal: PrincipalName): SandboxPaths =>
  sandboxPaths(host.config.layout, host.config.fleet, principal);

/** The name of a sandbox's control group. */
export const groupName = (principal: PrincipalName): string => principal.replaceAll("/", "+");

export const fleetFolder = (host: Pick<SandboxHost, "config">): string =>
  fleetRunDir(host.config.layout, host.config.fleet);
