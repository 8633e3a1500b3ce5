/** The names of units that several packages ask systemd about, and what their exit codes mean. */

export const launcherUnit = "bureau-launcher.service";
export const daemonUnit = "bureau-daemon.service";
/** The daemon's exit code when the homeserver closed this machine's account or session; nothing starts it again. */
export const REVOKED = 77;
/** When this unit stops, every sandbox ends. */
export const tmuxServerUnit = "bureau-terminals.service";
