/** Stops all units of Bureau and every process of the system user. */
import { lstatSync, readdirSync, readFileSync } from "node:fs";
import type { Clock } from "@bureau/kit/clock";
import { systemHost } from "@bureau/os/layout";
import { stopProcess } from "@bureau/os/process-end";
import { identify, type ProcessId } from "@bureau/os/process-table";
import { isTemplate } from "@bureau/os/systemctl";
import { daemonUnit } from "@bureau/os/unit-names";
import type { InstallRecord } from "../record/install-record.ts";
import { user } from "../resources/user.ts";
import { readAccounts } from "../system/accounts.ts";
import { firstBootUnit } from "../system/first-boot.ts";
import { runCommand } from "../system/run-command.ts";
import { unitFiles } from "../units/unit-files.ts";

/** A process that has not ended by then is killed. */
const END_MS_MAX = 10_000;

export async function stopEverything(record: InstallRecord, clock: Clock): Promise<void> {
  const names = unitFiles.map(({ name }) => name);
  const instances = names.filter(isTemplate).map((name) => name.replace("@.", "@*."));
  // The daemon first, so that it starts nothing again.
  const daemon = [daemonUnit, daemonUnit.replace(".service", ".socket")];
  for (const units of [daemon, [firstBootUnit], names.filter((name) => !isTemplate(name)), instances])
    if (units.length > 0) await runCommand(["systemctl", "stop", "--", ...units], { timeoutMs: 120_000 });
  if (record.find(user.entry, systemHost.user) === undefined) return;
  const uid = readAccounts().user(systemHost.user)?.uid;
  if (uid === undefined) return;
  await Promise.all(processesOf(uid).map((process) => stopProcess(process, END_MS_MAX, clock)));
}

function processesOf(uid: number): ProcessId[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      if (lstatSync(`/proc/${name}`).uid !== uid && effectiveUid(name) !== uid) return [];
    } catch {
      return [];
    }
    return identify(Number(name)) ?? [];
  });
}

/** root owns /proc/<pid> of a process that may not be dumped. */
function effectiveUid(pid: string): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^Uid:\s+\d+\s+(\d+)/m.exec(status)?.[1] ?? -1);
}
