/**
 * What systemd is told of a system installation: users, folders, sockets and services, as texts that doctor compares
 * byte by byte with what lies on the host.
 *
 * One unit a privilege, so that each is closed as far as its one program allows:
 *
 * ```
 * bureau-launcher.service    keys; no network at all. Its proxies and terminals run in units of their own
 * bureau-terminals.service   the tmux server and every sandbox below it: what bubblewrap needs is allowed here only
 * bureau-proxy@.service      one a sandbox, started by a connection to its socket; network, that one's credentials
 * bureau-daemon.service      the homeserver and launcher.sock; no secret but the machine's session
 * ```
 *
 * The sockets belong to systemd: they stay open while a service is replaced, so no client is ever refused.
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

/** What every service of ours does without. An exception is a line of its own unit, with its reason above it. */
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
# MemoryDenyWriteExecute is left out: the JavaScript engine compiles to machine code in memory.
`;

const identity = `User=${user}
Group=${user}
Slice=bureau.slice
`;

/** Both programs are told the same of the machine they are on. */
const machineFlags =
  "--homeserver ${BUREAU_HOMESERVER_URL} --machine-name ${BUREAU_MACHINE_NAME} --server-name ${BUREAU_SERVER_NAME} --fleet ${BUREAU_FLEET}";

const program = (name: string): string => `${systemHost.currentPrograms}/bin/${name}`;
const proxySocketPath = proxySpawnSocket(systemLayout);

/** How launcher and daemon are started again when they fail. */
const startedAgain = `Restart=on-failure
RestartSec=250ms
RestartSteps=6
RestartMaxDelaySec=30
# Straight from failed to starting, so its socket and whoever requires it stay as they are (systemd 254, as steps are).
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
# Sealed on the disk, opened by pid 1 into memory that only this service sees.
LoadCredentialEncrypted=machine-key:${systemHost.sealedKey}
ExecStart=${program("bureau-launcher")} ${machineFlags} --operators-group ${operatorsGroup} --proxy-socket ${proxySocketPath} --external-terminals
Sockets=bureau-launcher.socket
${startedAgain}RestartPreventExitStatus=77
WatchdogSec=30
# Every sandbox gets its grace when the launcher is told to stop.
TimeoutStopSec=90
LimitNOFILE=65536
# No network: proxies and terminals have units of their own.
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
IPAddressDeny=any
ReadWritePaths=${systemLayout.runDir} ${systemLayout.stateDir} ${systemLayout.workspaceRoot} ${systemLayout.cacheRoot}
# RestrictSUIDSGID is left out: the folder a service listens in passes its group on to the sockets in it.
# ProtectProc is left out: the launcher follows proxies, which close themselves to other processes.
${closed}# The control groups of sandboxes: only what systemd delegated to the terminals' unit is the user's to write.
ProtectControlGroups=no
# That folder is given to the operators' group, as far as its owner may.
SystemCallFilter=@chown

[Install]
WantedBy=multi-user.target
`;

const daemonService = `[Unit]
Description=Bureau daemon: what this machine should run, and does
After=bureau-launcher.service network-online.target
Wants=network-online.target
Requires=bureau-launcher.service
StartLimitIntervalSec=0

[Service]
Type=notify
${identity}EnvironmentFile=${systemHost.machineConf}
ExecStart=${program("bureau-daemon")} ${machineFlags}
Sockets=bureau-daemon.socket
${startedAgain}# The machine was taken out of its fleet: starting again cannot help.
RestartPreventExitStatus=77
WatchdogSec=30
TimeoutStartSec=120
TimeoutStopSec=20
LimitNOFILE=65536
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
# The link to the version that is started: moved when another one has shown that it works.
ReadWritePaths=${systemLayout.runDir} ${systemLayout.stateDir} ${systemHost.programsDir}
InaccessiblePaths=-/run/credentials
RestrictSUIDSGID=yes
ProtectProc=invisible
${closed}
[Install]
WantedBy=multi-user.target
`;

const terminalsService = `[Unit]
Description=Bureau terminals: the tmux server and every sandbox in it
StartLimitIntervalSec=0

[Service]
Type=exec
${identity}ExecStart=tmux -u -D -S ${tmuxSocket(systemLayout)} -f /dev/null
Environment=SHELL=/bin/sh LANG=C.UTF-8
# The launcher ends the server when it is told to stop; anything else is a crash.
Restart=on-failure
RestartSec=100ms
TimeoutStopSec=20
LimitNOFILE=65536
TasksMax=infinity
# The launcher makes a control group for each sandbox below this unit's; the server itself is in a leaf beside them, since
# a group with controllers for others holds no process. ProtectControlGroups is left out: a sandbox enters its group.
Delegate=cpu memory pids
DelegateSubgroup=terminals
# One agent that is out of memory must not take the others along.
OOMPolicy=continue
# What agents run inherits this unit's limits, so only what no sandbox may ever do is closed here. Left out, because
# bubblewrap needs it: RestrictNamespaces, ProtectHostname, and everything that mounts over /proc (ProtectKernelTunables,
# ProtectKernelLogs, ProtectProc), which would forbid a sandbox a /proc of its own. Left out, because agents need it:
# MemoryDenyWriteExecute, RestrictSUIDSGID, a list of allowed system calls.
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
# Stopped after it: when the machine goes down, agents have their proxy for as long as they have grace.
Before=bureau-launcher.service
CollectMode=inactive-or-failed

[Service]
Type=exec
${identity}ExecStart=${program("bureau-proxy")} --spare --run-dir ${systemLayout.runDir}
StandardInput=socket
StandardOutput=socket
StandardError=journal
# The launcher decides whether a proxy lives: a restarted launcher finds those it has.
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
 * A socket that stays when its service fails, hangs or is replaced, and goes when the service is stopped. `PartOf=`, not
 * `StopPropagatedFrom=`, which also acts on a service that ends unasked, as soon as anything of it outlives its main
 * process by a moment; and through `Requires=` that would stop the launcher for good.
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
Description=Bureau proxies: one for each connection of the launcher
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
Description=Bureau: everything of it on this machine
`;

/** Every unit, in the order in which they are started; stopping goes the other way. */
export const unitFiles: readonly UnitFile[] = [
  unit("bureau.slice", slice, { enabled: false, active: false }),
  unit("bureau-proxy.socket", proxySocket, { enabled: true, active: true }),
  unit("bureau-proxy@.service", proxyService, { enabled: false, active: false }),
  unit("bureau-terminals.service", terminalsService, { enabled: false, active: true }),
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
  const written = "# Written by bureau machine doctor --fix, which puts it back when it is changed.\n";
  return { name, path: `${systemHost.unitDir}/${name}`, text: written + text, ...when };
}
