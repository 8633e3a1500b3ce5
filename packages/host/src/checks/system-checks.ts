/** The host itself: accounts, kernel, and the programs that make sandboxes. */
import { existsSync, readFileSync } from "node:fs";
import {
  bwrapFault,
  checkNamespaces,
  type Host,
  requireBwrap,
  requireTmux,
  thisHost,
} from "@bureau/instance/sandbox-preflight";
import { isBureauError } from "@bureau/kit/errors";
import { systemHost } from "@bureau/os/layout";
import type { Action } from "../resources/registry.ts";
import { asSystemUser, sessionGroups } from "../system/accounts.ts";
import { runCommand } from "../system/run-command.ts";
import { sysusersFile } from "../units/host-files.ts";
import {
  byFix,
  byHand,
  type Check,
  everyInstallation,
  type Finding,
  fail,
  pass,
  skip,
  systemOnly,
  warn,
} from "./check.ts";
import type { HostView } from "./host-view.ts";
import { namespaceRemedies } from "./namespace-remedies.ts";

const { user, operatorsGroup } = systemHost;
const scope = systemOnly("a rootless instance runs as you");

/** systemd-creds came with 250 (its release notes). */
const SYSTEMD_LEAST = 250;

const makeAccounts: readonly Action[] = [
  { kind: "file", path: sysusersFile.path, text: sysusersFile.text, mode: 0o644 },
  { kind: "accounts" },
];

export const systemChecks: readonly Check[] = [
  {
    id: "system-user",
    group: "system",
    title: "System user",
    expected: `the user "${user}", without a login shell`,
    repair: byFix("makes it with systemd-sysusers"),
    scope,
    run: (host) => {
      const found = host.accounts().user(user);
      if (found === undefined) return fail("no such user", { actions: makeAccounts });
      if (found.uid === 0)
        return fail(`"${user}" is root`, { hint: "rename that user: Bureau never runs as root" });
      if (!/\/(nologin|false)$/.test(found.shell))
        return warn(`its shell is "${found.shell}"`, { hint: `sudo usermod -s /usr/sbin/nologin ${user}` });
      return pass(`uid ${found.uid}, ${found.shell}`);
    },
  },
  {
    id: "operators-group",
    group: "system",
    title: "Operators' group",
    expected: `the group "${operatorsGroup}"`,
    repair: byFix("makes it with systemd-sysusers"),
    scope,
    run: (host) => {
      const found = host.accounts().group(operatorsGroup);
      return found === undefined
        ? fail("no such group", { actions: makeAccounts })
        : pass(`gid ${found.gid}`);
    },
  },
  {
    id: "system-user-groups",
    group: "system",
    title: "Groups of the system user",
    expected: `"${user}" is in "${user}" and "${operatorsGroup}"`,
    repair: byFix("makes it with systemd-sysusers"),
    scope,
    run: (host) => {
      const missing = [user, operatorsGroup].filter((group) => !host.accounts().isMember(user, group));
      return missing.length === 0
        ? pass("member of both")
        : fail(`not in ${missing.join(" and ")}`, { actions: makeAccounts });
    },
  },
  {
    id: "operator-membership",
    group: "system",
    title: "You are an operator",
    expected: `in the group "${operatorsGroup}"`,
    repair: byFix("adds the user who called sudo, or --operator NAME"),
    scope,
    run: operatorMembership,
  },
  {
    id: "systemd",
    group: "system",
    title: "systemd",
    expected: `systemd ${SYSTEMD_LEAST} or newer runs this host`,
    repair: byHand("upgrade the distribution"),
    scope: systemOnly("a rootless instance needs no systemd"),
    run: async () => {
      if (!existsSync("/run/systemd/system"))
        return fail("systemd does not run this host", {
          hint: "a machine of a fleet needs a host that systemd boots (in a container: one with systemd as its init); without it: bureau up",
        });
      const { stdout } = await runCommand(["systemctl", "--version"]);
      const version = Number(/^systemd (\d+)/.exec(stdout)?.[1] ?? 0);
      return version >= SYSTEMD_LEAST
        ? pass(String(version))
        : fail(`version ${version}`, {
            hint: "upgrade the distribution (Debian 12, Ubuntu 22.10, Fedora 36 and newer have it); without it: bureau up",
          });
    },
  },
  {
    id: "kernel",
    group: "system",
    title: "Kernel features",
    expected: "namespaces, seccomp filters and one cgroup hierarchy (v2)",
    repair: byHand("boot a kernel that has them, with systemd.unified_cgroup_hierarchy=1"),
    scope: everyInstallation,
    run: (host) => {
      const namespaces = ["user", "pid", "net", "ipc", "uts", "mnt", "cgroup"];
      const missing = namespaces
        .filter((name) => !existsSync(`/proc/self/ns/${name}`))
        .map((name) => `${name} namespaces`);
      if (!existsSync("/proc/sys/kernel/seccomp/actions_avail")) missing.push("seccomp filters");
      if (missing.length > 0) return fail(`without ${missing.join(", ")}`);
      if (host.kind === "system" && !existsSync("/sys/fs/cgroup/cgroup.controllers"))
        return warn("cgroups are not v2: no limits for sandboxes");
      return pass(readFileSync("/proc/sys/kernel/osrelease", "utf8").trim());
    },
  },
  {
    id: "bubblewrap",
    group: "system",
    title: "bubblewrap",
    expected: "bubblewrap 0.5 or newer; 0.12 has the fix of CVE-2026-87766",
    repair: byFix("installs the package"),
    scope: everyInstallation,
    run: bubblewrap,
  },
  {
    id: "tmux",
    group: "system",
    title: "tmux",
    expected: "tmux 3.0 or newer",
    repair: byFix("installs the package"),
    scope: everyInstallation,
    run: () => program(() => requireTmux(thisHost), "tmux"),
  },
  {
    id: "user-namespaces",
    group: "system",
    title: "Sandboxes without root",
    expected: `"${user}" can make a sandbox with bubblewrap`,
    repair: byFix(
      `writes an AppArmor profile for bwrap, or sets the sysctl that forbids it and keeps it in ${systemHost.sysctlFile}`,
    ),
    scope: everyInstallation,
    run: sandboxes,
  },
];

function operatorMembership(host: HostView): Finding {
  const { operator } = host;
  if (operator === undefined) return skip("root needs no group; --operator NAME adds a user");
  const accounts = host.accounts();
  if (accounts.user(operator)?.uid === 0) return skip("root needs no group");
  const group = accounts.group(operatorsGroup);
  const add: readonly Action[] = [
    ...(group === undefined ? makeAccounts : []),
    { kind: "member", user: operator, group: operatorsGroup },
  ];
  const inSession = (): boolean | undefined => {
    const uid = accounts.user(operator)?.uid ?? process.getuid?.() ?? 0;
    return group === undefined ? undefined : sessionGroups(uid)?.includes(group.gid);
  };
  if (!accounts.isMember(operator, operatorsGroup)) {
    // A directory service can add members without a line in /etc/group.
    if (inSession() === true) return pass(`${operator} is a member`);
    return fail(`${operator} is not a member`, { actions: add });
  }
  return inSession() === false
    ? warn(`${operator} is a member, but logged in before that`, {
        hint: `log in again, or: newgrp ${operatorsGroup}`,
      })
    : pass(`${operator} is a member`);
}

function bubblewrap(): Finding {
  const finding = program(() => requireBwrap(thisHost), "bubblewrap");
  const weakness = finding.status === "pass" ? bwrapFault(thisHost, finding.found) : undefined;
  return weakness === undefined ? finding : warn(weakness.fault, { hint: weakness.hint });
}

function program(require: () => string, name: string): Finding {
  try {
    return pass(require());
  } catch (error) {
    if (!isBureauError(error)) throw error;
    return fail(error.message, { hint: error.hint, actions: [{ kind: "package", name }] });
  }
}

function sandboxes(host: HostView): Finding {
  try {
    checkNamespaces(host.isRoot && host.kind === "system" ? withSystemUser(host, thisHost) : thisHost);
    return pass("yes");
  } catch (error) {
    if (!isBureauError(error)) throw error;
    if (!Bun.which("bwrap")) return skip("bubblewrap is not installed");
    return fail(error.message, { hint: error.hint, actions: namespaceRemedies(thisHost) });
  }
}

/** Root may do everything, so the check runs as the system user, who makes the sandboxes. */
function withSystemUser(host: HostView, kernel: Host): Host {
  const become = asSystemUser(host.accounts());
  return { ...kernel, run: (command) => kernel.run([...become, ...command]) };
}
