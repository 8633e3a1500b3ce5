/** The sockets of an installation: the specification's table "Socket Permissions". */
import { type Layout, launcherSocket, observeSocket, systemHost, tmuxSocket } from "@bureau/os/layout";

export type HostSocket = {
  readonly pathIn: (layout: Layout) => string;
  readonly owner: string;
  readonly group: string;
  /** Each of them is right. */
  readonly modes: readonly number[];
};

const { user, operatorsGroup } = systemHost;

export const hostSockets: readonly HostSocket[] = [
  { pathIn: launcherSocket, owner: user, group: user, modes: [0o660] },
  { pathIn: observeSocket, owner: user, group: operatorsGroup, modes: [0o660] },
  // tmux adds the x while a client is attached.
  { pathIn: tmuxSocket, owner: user, group: user, modes: [0o700, 0o600] },
];
