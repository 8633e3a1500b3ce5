/** What keeps sandboxes and proxies: the launcher's socket, and the proxies' admin sockets. */
import { launcherSocket } from "@bureau/os/layout";
import { subsystem } from "../assembly/subsystem.ts";
import { type Launcher, openLauncherClient } from "../launcher/launcher-client.ts";
import { openProxyAdmin, type ProxyAdmin, type ProxyDirectory } from "../launcher/proxy-admin.ts";

export type LauncherPart = { readonly client: Launcher; readonly proxies: ProxyAdmin & ProxyDirectory };

export const launcher = subsystem({
  name: "launcher",
  needs: {},
  start(_needs: object, { config }) {
    const part: LauncherPart = {
      client: openLauncherClient(launcherSocket(config.layout)),
      proxies: openProxyAdmin(config.layout, config.fleet),
    };
    return { part };
  },
});
