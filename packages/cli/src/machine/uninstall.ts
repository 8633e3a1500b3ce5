/** `bureau machine uninstall`, also `bureau machine doctor --uninstall`. */
import { existsSync, realpathSync } from "node:fs";
import { lockHost } from "@bureau/host/doctor/doctor";
import type { InstallRecord } from "@bureau/host/record/install-record";
import { readRecord } from "@bureau/host/resources/host-record";
import type { UninstallOptions } from "@bureau/host/resources/resource";
import { runElevated } from "@bureau/host/system/elevate";
import { requireTrustworthy } from "@bureau/host/system/require-trustworthy";
import { dataHeld, holdsData, requireDecision, whyUserStays } from "@bureau/host/uninstall/data-held";
import {
  foreseeUninstall,
  isIncomplete,
  type Receipt,
  receiptJson,
  uninstallAll,
} from "@bureau/host/uninstall/uninstall";
import { BureauError, isBureauError } from "@bureau/kit/errors";
import { shellWord } from "@bureau/kit/shell-words";
import { buildDir } from "@bureau/os/build-dir";
import { systemHost } from "@bureau/os/layout";
import { type CommandContext, defineCommand, defineFlags, type FlagValues } from "../command/command.ts";
import { findInstallation } from "../command/installation.ts";
import { sayNext } from "../command/say-next.ts";
import { dryRunFlag, type HomeValue, jsonFlag } from "../command/shared-flags.ts";

/** What an uninstall removes and keeps. */
export const uninstallFlags = defineFlags({
  "remove-user": { type: "boolean", summary: "Uninstall: also remove the system user and the groups" },
  "remove-packages": {
    type: "boolean",
    summary: "Uninstall: also remove packages that doctor --fix installed",
  },
  "keep-data": {
    type: "boolean",
    excludes: ["discard-data"],
    summary: "Uninstall: keep files in workspace and cache",
  },
  "discard-data": { type: "boolean", summary: "Uninstall: remove files in workspace and cache" },
});

const flags = defineFlags({ ...uninstallFlags, ...dryRunFlag, ...jsonFlag });
type Asked = CommandContext & { readonly flags: FlagValues<typeof flags> & Partial<HomeValue> };

export const command = defineCommand({
  summary: "Remove Bureau from this host: exactly what it installed",
  details: `Stops everything and removes what the record ${systemHost.installRecord} lists. Prints a receipt of what was removed,\nand what stays and why. The user and the groups stay unless --remove-user is given.`,
  flags,
  examples: ["bureau machine uninstall --dry-run", "bureau machine uninstall --remove-user --discard-data"],
  run: uninstall,
});

/** Exit code 0: done; 1: something could not be removed, or a decision is missing. */
export async function uninstall(invocation: Asked): Promise<number> {
  const { terminal } = invocation;
  const options = optionsOf(invocation);
  const record = readRecord();
  if (record === undefined) return nothingRecorded(invocation);
  if (invocation.flags["dry-run"]) return showPlan(invocation, record, options);
  if (process.getuid?.() !== 0) {
    terminal.say(terminal.style.bold("What is removed:"));
    for (const line of (await foreseen(record, options)).removed) terminal.say(`  ${line}`);
    return runElevated(realpathSync(buildDir()), elevatedArgs(invocation), undefined);
  }
  requireTrustworthy(realpathSync(buildDir()));
  using _lock = await lockHost();
  try {
    requireDecision(record, options);
  } catch (error) {
    if (!isBureauError(error)) throw error;
    terminal.say(`${terminal.style.red("error:")} ${error.message}`);
    sayNext(terminal, error.hint);
    if (invocation.flags.json)
      terminal.json({
        ok: false,
        error: error.message,
        code: error.code,
        hint: error.hint,
        data: dataHeld(record),
      });
    return 1;
  }
  const receipt = await uninstallAll(record, options, {
    onRemoved: (what) => terminal.step(what).done(`removed ${what}`),
  });
  if (invocation.flags.json) terminal.json(receiptJson(receipt));
  else printReceipt(invocation, receipt);
  return isIncomplete(receipt) ? 1 : 0;
}

function optionsOf(invocation: Asked): UninstallOptions {
  const [keep, discard] = [invocation.flags["keep-data"], invocation.flags["discard-data"]];
  return {
    removeUser: invocation.flags["remove-user"],
    removePackages: invocation.flags["remove-packages"],
    data: keep ? "keep" : discard ? "discard" : undefined,
  };
}

function nothingRecorded(invocation: Asked): number {
  if (existsSync(systemHost.machineConf))
    throw new BureauError(
      "not-found",
      `There is a Bureau here, but no record of what it made: "${systemHost.installRecord}" is missing`,
      {
        hint: "bureau machine doctor did not install it, so nothing is removed",
      },
    );
  if (invocation.flags.json) invocation.terminal.json({ removed: [], kept: [] });
  else sayNothingInstalled(invocation);
  return 0;
}

/** A rootless instance is not part of the system, and is removed without this command. */
function sayNothingInstalled(invocation: Asked): void {
  const own = findInstallation(invocation);
  if (own?.kind !== "rootless") {
    invocation.terminal.print("There is no Bureau on this host.");
    return;
  }
  invocation.terminal.print("Nothing of Bureau is installed in this host's system.");
  const folder = shellWord(own.instance.layout.home);
  sayNext(invocation.terminal, `your own instance is one folder: bureau down, then rm -r ${folder}`);
}

const foreseen = (record: InstallRecord, options: UninstallOptions): Promise<Receipt> =>
  foreseeUninstall(record, options, whyUserStays(options, holdsData(record)));

async function showPlan(
  invocation: Asked,
  record: InstallRecord,
  options: UninstallOptions,
): Promise<number> {
  const plan = await foreseen(record, options);
  const data = options.data === undefined ? dataHeld(record) : [];
  if (invocation.flags.json) invocation.terminal.json({ ...receiptJson(plan), data, dry_run: true });
  else {
    printReceipt(invocation, plan, "Would stop everything that runs, and remove");
    if (data.length > 0)
      invocation.terminal.print(
        `\nIt would refuse: there are files in ${data.map(({ path }) => path).join(" and ")}; use --discard-data or --keep-data.`,
      );
  }
  return data.length > 0 ? 1 : 0;
}

/** The installed programs go with everything else. */
const laterHint =
  "To remove the rest later, run bureau machine uninstall from another build, such as a checkout; the installed one is removed.";

function printReceipt({ terminal }: Asked, receipt: Receipt, verb = "Removed"): void {
  terminal.print(`${verb}:`);
  for (const line of receipt.removed) terminal.print(`  ${line}`);
  if (receipt.kept.length > 0) terminal.print("\nStays:");
  for (const { what, why } of receipt.kept) terminal.print(`  ${what}: ${why}`);
  if (receipt.kept.length > 0) terminal.print(`\n${laterHint}`);
}

function elevatedArgs(invocation: Asked): string[] {
  const names = ["remove-user", "remove-packages", "keep-data", "discard-data", "json"] as const;
  return [
    "machine",
    "doctor",
    "--uninstall",
    ...names.filter((name) => invocation.flags[name]).map((name) => `--${name}`),
  ];
}
