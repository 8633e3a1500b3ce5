/** What the machine should run and runs, as its daemon reports, and whether services answer on their sockets. */
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { type BureauError, isBureauError } from "@bureau/kit/errors";
import { describeLimits } from "@bureau/kit/limits-report";
import { sandboxPaths, systemHost } from "@bureau/os/layout";
import { evalCommand } from "@bureau/os/runtime-command";
import { daemonUnit } from "@bureau/os/unit-names";
import type { PrincipalReport } from "@bureau/schema/observe-wire";
import { type FleetLocalpart, fleetOf, parsePrincipalName, principalType } from "@bureau/schema/refs";
import { asOperator } from "../system/accounts.ts";
import { look } from "../system/look.ts";
import { runCommand } from "../system/run-command.ts";
import {
  byHand,
  type Check,
  everyInstallation,
  type Finding,
  fail,
  hidden,
  pass,
  skip,
  warn,
} from "./check.ts";
import type { HostView } from "./host-view.ts";
import { refusalOf } from "./socket-checks.ts";

export const serviceChecks: readonly Check[] = [
  {
    id: "daemon",
    group: "services",
    title: "Daemon",
    expected: "in sync with the homeserver",
    repair: byHand("its reason tells what to do; it retries by itself"),
    scope: everyInstallation,
    run: daemon,
  },
  {
    id: "machine-config",
    group: "services",
    title: "Configuration of this machine",
    expected: "every field can be read",
    repair: byHand("bureau machine config --repair removes what cannot be read"),
    scope: everyInstallation,
    run: configuration,
  },
  {
    id: "principals",
    group: "services",
    title: "Principals of this machine",
    expected: "every principal that should run runs",
    repair: byHand("the daemon retries by itself; a reason that stays is in the configuration"),
    scope: everyInstallation,
    run: principals,
  },
  {
    id: "resource-limits",
    group: "services",
    title: "Limits of agents",
    expected: "memory, processes and CPU of every sandbox are limited",
    repair: byHand("boot with the unified control groups (cgroup v2); rootless, `loginctl enable-linger`"),
    scope: everyInstallation,
    run: resourceLimits,
  },
  {
    id: "service-sockets",
    group: "services",
    title: "Sockets of services",
    expected: "every running service answers operators on its socket",
    repair: byHand("bureau agent logs NAME shows why it does not listen"),
    scope: everyInstallation,
    run: serviceSockets,
  },
];

async function daemon(host: HostView): Promise<Finding> {
  const report = await host.report();
  const unit = host.kind === "system" ? (await host.units()).get(daemonUnit) : undefined;
  if (isBureauError(report)) {
    if (!host.hasJoined()) return skip("waits until this machine has joined its fleet");
    if (unit?.active === "activating") return warn("starting");
    return unanswered(report);
  }
  const { state, reason } = report.machine;
  if (state === "online") return pass("online");
  const found = `${state}${reason === undefined ? "" : `: ${reason}`}`;
  return state === "starting" ? warn(found) : fail(found, { hint: "journalctl -u bureau-daemon -n 30" });
}

/** A caller that may not open the socket learns nothing. */
const unanswered = ({ code }: BureauError): Finding =>
  code === "forbidden"
    ? hidden("you may not ask: only operators and root may")
    : fail("the daemon does not answer", { hint: "see the checks of its socket and its unit" });

async function resourceLimits(host: HostView): Promise<Finding> {
  const report = await host.report();
  const limits = isBureauError(report) ? undefined : report.machine.limits;
  if (limits === undefined) return skip("the daemon does not report them");
  const found = describeLimits(limits);
  if (limits.level === "enforced") return pass(found);
  return warn(found, { hint: limitsHint(host.kind) });
}

function limitsHint(kind: HostView["kind"]): string {
  if (kind === "system") return "boot with the unified control groups: systemd.unified_cgroup_hierarchy=1";
  return existsSync("/run/systemd/system")
    ? "loginctl enable-linger, then bureau down and bureau up"
    : "only root has control groups here; on a host that systemd boots: loginctl enable-linger";
}

async function configuration(host: HostView): Promise<Finding> {
  const report = await host.report();
  if (isBureauError(report)) return skip("the daemon does not answer");
  const faults = report.config_faults ?? [];
  if (faults.length === 0) return pass("valid");
  return fail(faults.join("; "), {
    hint: `bureau machine config ${report.machine.name}, and with --repair to remove what cannot be read`,
  });
}

async function principals(host: HostView): Promise<Finding> {
  const report = await host.report();
  if (isBureauError(report)) return skip("the daemon does not answer");
  const say = (principal: PrincipalReport): string =>
    `${principal.name} ${principal.state}${principal.reason === undefined ? "" : ` (${principal.reason})`}`;
  const failed = report.principals.filter(({ state }) => state === "failed");
  const unwell = report.principals.filter(
    ({ state }) => state === "backing-off" || state === "starting" || state === "stopping",
  );
  if (failed.length > 0)
    return fail([...failed, ...unwell].map(say).join("; "), { hint: "bureau agent show NAME" });
  if (unwell.length > 0) return warn(unwell.map(say).join("; "), { hint: "bureau agent logs NAME" });
  const running = report.principals.filter(({ state }) => state === "running").length;
  return pass(
    report.principals.length === 0 ? "none assigned" : `${running} of ${report.principals.length} running`,
  );
}

/** A proxy closes an idle connection at once when the program does not listen. */
const CLOSE_MS = 500;
/** Not an errno: the server accepted, then closed the connection. */
const CLOSED = 200;
/** A program of its own, because it may run as another user. Its exit code is 0, an errno, or {@link CLOSED}. */
const CONNECT = `
const socket = require("node:net").connect(process.argv.at(-1));
let heard = false;
socket.on("data", () => { heard = true; });
socket.on("error", ({ code }) => process.exit(require("node:os").constants.errno[code] ?? ${CLOSED}));
socket.on("close", () => process.exit(heard ? 0 : ${CLOSED}));
socket.on("connect", () => setTimeout(() => process.exit(0), ${CLOSE_MS}));`;
/** env(1) and setpriv(1): the command cannot be run. */
const NOT_RUN = [126, 127];

/** Why a service's socket refuses an operator; undefined when it does not. Root asks with the operators' rights. */
async function refusalToOperators(host: HostView, path: string): Promise<string | undefined> {
  const group = host.accounts().group(systemHost.operatorsGroup);
  const asGroup = host.isRoot && host.kind === "system" && group !== undefined;
  const command = evalCommand(CONNECT, path);
  const ran = await runCommand(asGroup ? [...asOperator(group.gid), ...command] : command);
  // Other users may be unable to read the runtime of a checkout.
  if (NOT_RUN.includes(ran.code) && asGroup) return refusalOf(path);
  if (ran.code === 0) return undefined;
  const [errno] = Object.entries(constants.errno).find(([, number]) => number === ran.code) ?? [];
  // A program that does not listen: either can happen.
  if (ran.code === CLOSED || errno === "ECONNRESET") return "it closes the connection";
  return errno ?? `exit code ${ran.code}`;
}

const isOperator = (host: HostView): boolean => {
  const group = host.accounts().group(systemHost.operatorsGroup);
  return host.isRoot || (group !== undefined && (process.getgroups?.() ?? []).includes(group.gid));
};

async function serviceSockets(host: HostView): Promise<Finding> {
  const report = await host.report();
  const identity = host.identity();
  if (isBureauError(report) || identity === undefined) return skip("the daemon does not answer");
  const services = report.principals
    .filter(({ state }) => state === "running")
    .map(({ name }) => parsePrincipalName(name))
    .filter((account) => principalType(account) === "service");
  const fleet: FleetLocalpart = fleetOf(identity.machine);
  const faults = await Promise.all(
    services.map(async (account) => {
      const path = sandboxPaths(host.layout, fleet, account).serviceSocket;
      const { kind } = look(path);
      if (kind === "absent") return `${account} has no socket`;
      if (kind === "hidden") return undefined;
      const refusal = await refusalToOperators(host, path);
      if (refusal === "EACCES") return isOperator(host) ? `${account} refuses operators (EACCES)` : undefined;
      return refusal === undefined ? undefined : `${account} does not answer (${refusal})`;
    }),
  );
  const silent = faults.filter((text) => text !== undefined);
  if (silent.length > 0) return warn(silent.join("; "), { hint: "bureau agent logs NAME" });
  return pass(services.length === 0 ? "no services run" : `${services.length} answer`);
}
