/**
 * Files that a system installation has in `/etc`, as texts that doctor compares byte by byte with the host's: users and groups
 * for systemd-sysusers, folders for systemd-tmpfiles, and the commands' folder for shells.
 */
import { systemHost } from "@bureau/os/layout";
import { hostFolders } from "./host-folders.ts";

export type HostFile = { readonly path: string; readonly text: string };

/** User and groups; systemd-sysusers makes those that are missing. */
export const sysusersFile: HostFile = {
  path: systemHost.sysusers,
  text: `# Bureau's system user and the group of its operators. Written by bureau machine doctor --fix.
g ${systemHost.user} -
g ${systemHost.operatorsGroup} -
u ${systemHost.user} - "Bureau" - -
m ${systemHost.user} ${systemHost.operatorsGroup}
`,
};

/** The run folder is in memory, so it is made at every boot. */
export const tmpfilesFile: HostFile = {
  path: systemHost.tmpfiles,
  text: `# Folders of Bureau. Written by bureau machine doctor --fix.
${hostFolders
  .map(({ path, owner, group, mode }) => `d ${path} ${mode.toString(8).padStart(4, "0")} ${owner} ${group} -`)
  .join("\n")}
`,
};

/** Puts Bureau's commands on the PATH of users. */
export const profileFile: HostFile = {
  path: systemHost.profile,
  text: `# Bureau's commands. Written by bureau machine doctor --fix.
case ":$PATH:" in *:${systemHost.binDir}:*) ;; *) PATH=${systemHost.binDir}:$PATH ;; esac
`,
};
