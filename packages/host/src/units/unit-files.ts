/**
 * The units of a system installation, as texts that doctor compares byte by byte with the host's.
 *
 * Each privilege has a unit of its own, restricted as far as its one program allows:
 *
 * ```
 * bureau-launcher.service    keys; no network. Its proxies and the tmux server run in units of their own
 * bureau-terminals.service   the tmux server and every sandbox below it: only here is allowed what bubblewrap needs
 * bureau-proxy@.service      one per sandbox, started by a connection to its socket; network, one principal's credentials
 * bureau-daemon.service      talks to the homeserver and launcher.sock; no secret but the machine's session
 * ```
 *
 * systemd holds the sockets: they stay open while a service is replaced, so no client is refused.
 */
import {
  launcherSocket,
  observeSocket,
  proxySpawnSocket,
  systemHost,
  systemLayout,
  tmuxSocket,
} from "@bureau/os/layout";
import type { HostFile } from "./host-files.ts";

const { user, operatorsGroup } = systemHost;

/** A unit as doctor installs it. */
export type UnitFile = HostFile & {
  readonly name: string;
  /** Starts at boot. */
  readonly enabled: boolean;
  /** Runs whenever Bureau does; the others are started when they are needed. */
  readonly active: boolean;
};

/** Restrictions of every service. A unit overrides one in a line of its own, with the reason above it. */
const closed = `NoNewPrivileges=yes
CapabilityBoundingSet=
LockPersonality=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=strict
RemoveIPC=yes
RestrictNamespaces=yes
RestrictRealtime=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
UMask=0077
# Without MemoryDenyWriteExecute: the JavaScript engine compiles to machine code in memory.
`;

const identity = `User=${user}
Group=${user}
Slice=bureau.slice
`;

/** Launcher and daemon get the same flags about their machine. */
const machineFlags =
  "--homeserver ${BUREAU_HOMESERVER_URL} --machine-name ${BUREAU_MACHINE_NAME} --server-name ${BUREAU_SERVER_NAME} --fleet ${BUREAU_FLEET}";

const program = (name: string): string => `${systemHost.currentPrograms}/bin/${name}`;
const proxySocketPath = proxySpawnSocket(systemLayout);

/** How systemd restarts launcher and daemon when they fail. */
const restart = `Restart=on-failure
RestartSec=250ms
RestartSteps=6
RestartMaxDelaySec=30
# Directly from failed to starting, so its socket and the units that require it keep running (needs systemd 254).
RestartMode=direct
`;

const launcherService = `[Unit]
Description=Bureau launcher: keys and sandboxes
After=bureau-terminals.service bureau-proxy.socket
Wants=bureau-terminals.service bureau-daemon.service
Requires=bureau-proxy.socket
StartLimitIntervalSec=0

[Service]
Type=notify
${identity}EnvironmentFile=${systemHost.machineConf}
# Sealed on the disk. pid 1 opens it into memory that only this service sees.
LoadCredentialEncrypted=machine-key:${systemHost.sealedKey}
ExecStart=${program("bureau-launcher")} ${machineFlags} --operators-group ${operatorsGroup} --proxy-socket ${proxySocketPath} --external-terminals
Sockets=bureau-launcher.socket
${restart}RestartPreventExitStatus=77
WatchdogSec=30
# A stopping launcher gives every sandbox its grace period.
TimeoutStopSec=90
LimitNOFILE=65536
# No network: proxies and the tmux server have units of their own.
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
IPAddressDeny=any
ReadWritePaths=${systemLayout.runDir} ${systemLayout.stateDir} ${systemLayout.workspaceRoot} ${systemLayout.cacheRoot}
# Without RestrictSUIDSGID: the folder that a service listens in gives its group to the sockets in it.
# Without ProtectProc: the launcher watches proxies, which are not dumpable, so others cannot see them.
${closed}# For the control groups of sandboxes: the user can write only those that systemd delegated to bureau-terminals.service.
ProtectControlGroups=no
# The launcher gives the folder of a service's socket to the operators' group.
SystemCallFilter=@chown

[Install]
WantedBy=multi-user.target
`;

const daemonService = `[Unit]
Description=Bureau daemon: runs what this machine should run
After=bureau-launcher.service network-online.target
Wants=network-online.target
Requires=bureau-launcher.service
StartLimitIntervalSec=0

[Service]
Type=notify
${identity}EnvironmentFile=${systemHost.machineConf}
ExecStart=${program("bureau-daemon")} ${machineFlags}
Sockets=bureau-daemon.socket
${restart}# The machine was removed from its fleet: a restart cannot help.
RestartPreventExitStatus=77
WatchdogSec=30
TimeoutStartSec=120
TimeoutStopSec=20
LimitNOFILE=65536
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
# The programs folder holds the boot link, which moves when another build has shown that it works.
ReadWritePaths=${systemLayout.runDir} ${systemLayout.stateDir} ${systemHost.buildDir}
InaccessiblePaths=-/run/credentials
RestrictSUIDSGID=yes
ProtectProc=invisible
${closed}
[Install]
WantedBy=multi-user.target
`;

const tmuxServerService = `[Unit]
Description=Bureau tmux server, with every sandbox
StartLimitIntervalSec=0

[Service]
Type=exec
${identity}ExecStart=tmux -u -D -S ${tmuxSocket(systemLayout)} -f /dev/null
Environment=SHELL=/bin/sh LANG=C.UTF-8
# A stopping launcher ends the server; any other end is a crash.
Restart=on-failure
RestartSec=100ms
TimeoutStopSec=20
LimitNOFILE=65536
TasksMax=infinity
# The launcher makes a control group for each sandbox below this unit's. The server itself is in a leaf beside them, since
# a group with controllers for its children holds no process. Without ProtectControlGroups: a sandbox enters its group.
Delegate=cpu memory pids
DelegateSubgroup=terminals
# An agent that runs out of memory must not end the others.
OOMPolicy=continue
# Agents inherit this unit's restrictions, so it has only those that every sandbox can have. Left out for bubblewrap:
# RestrictNamespaces, ProtectHostname, and everything that mounts over /proc (ProtectKernelTunables, ProtectKernelLogs,
# ProtectProc), because a sandbox could then not mount its own /proc. Left out for agents: MemoryDenyWriteExecute,
# RestrictSUIDSGID, a list of allowed system calls.
NoNewPrivileges=yes
CapabilityBoundingSet=
LockPersonality=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectHome=yes
ProtectKernelModules=yes
ProtectSystem=full
InaccessiblePaths=-/run/credentials -${systemLayout.stateDir}
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
SystemCallArchitectures=native
SystemCallFilter=~@clock @cpu-emulation @module @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
UMask=0077
`;

const proxyService = `[Unit]
Description=Bureau proxy: one principal's credentials
# Stops after the launcher: at shutdown, agents have their proxy until their grace period ends.
Before=bureau-launcher.service
CollectMode=inactive-or-failed

[Service]
Type=exec
${identity}ExecStart=${program("bureau-proxy")} --spare --run-dir ${systemLayout.runDir}
StandardInput=socket
StandardOutput=socket
StandardError=journal
# The launcher ends proxies. A restarted launcher finds the running ones.
TimeoutStopSec=5
LimitNOFILE=65536
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
ReadWritePaths=${systemLayout.runDir}
InaccessiblePaths=-/run/credentials -${systemLayout.stateDir}
RestrictSUIDSGID=yes
ProtectProc=invisible
ProcSubset=pid
${closed}`;

/**
 * A socket that stays when its service fails, hangs or is replaced, and is removed when the service is stopped. `PartOf=`, not
 * `StopPropagatedFrom=`, which also acts on a service that ends by itself, as soon as any of its processes outlives the main
 * process by a moment; through `Requires=` that would stop the launcher for good.
 */
const socketOf = (service: string, path: string, group: string, description: string): string => `[Unit]
Description=${description}
PartOf=${service}

[Socket]
ListenStream=${path}
SocketUser=${user}
SocketGroup=${group}
SocketMode=0660
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
`;

const proxySocket = `[Unit]
Description=Bureau proxies: one per connection of the launcher
PartOf=bureau-launcher.service

[Socket]
ListenStream=${proxySocketPath}
SocketUser=${user}
SocketGroup=${user}
SocketMode=0600
RemoveOnStop=yes
Accept=yes
MaxConnections=4096
# Many sandboxes may start at once.
TriggerLimitIntervalSec=0

[Install]
WantedBy=sockets.target
`;

const slice = `[Unit]
Description=All programs of Bureau on this machine
`;

/** Every unit, in the order of their start; they stop in reverse order. */
export const unitFiles: readonly UnitFile[] = [
  unit("bureau.slice", slice, { enabled: false, active: false }),
  unit("bureau-proxy.socket", proxySocket, { enabled: true, active: true }),
  unit("bureau-proxy@.service", proxyService, { enabled: false, active: false }),
  unit("bureau-terminals.service", tmuxServerService, { enabled: false, active: true }),
  unit(
    "bureau-launcher.socket",
    socketOf("bureau-launcher.service", launcherSocket(systemLayout), user, "Bureau launcher socket"),
    { enabled: true, active: true },
  ),
  unit("bureau-launcher.service", launcherService, { enabled: true, active: true }),
  unit(
    "bureau-daemon.socket",
    socketOf(
      "bureau-daemon.service",
      observeSocket(systemLayout),
      operatorsGroup,
      "Bureau socket for operators",
    ),
    { enabled: true, active: true },
  ),
  unit("bureau-daemon.service", daemonService, { enabled: true, active: true }),
];

function unit(name: string, text: string, when: { enabled: boolean; active: boolean }): UnitFile {
  const written = "# Written by bureau machine doctor --fix, which restores it when it is changed.\n";
  return { name, path: `${systemHost.unitDir}/${name}`, text: written + text, ...when };
}
