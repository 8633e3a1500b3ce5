/**
 * Runs inside a machine, as root: what Bureau's programs hold there at this moment, as JSON. What grows from one upgrade
 * to the next is a leak.
 */
import { readdirSync, readFileSync } from "node:fs";

export type ProgramCensus = {
  readonly pid: number;
  readonly fds: number;
  /** Memory that is its own: what is shared depends on who else runs the same runtime. */
  readonly privateKb: number;
  /** Descriptors that systemd keeps for it. */
  readonly stored: number;
  /** Command and state of each: `tmux S`. */
  readonly children: readonly string[];
};

export type Census = {
  readonly programs: Readonly<Record<string, ProgramCensus>>;
  /** Of the whole machine: command and parent. */
  readonly zombies: readonly string[];
  /** Below the run and the state folder, and those for temporary files. */
  readonly files: readonly string[];
  /** Instances of `bureau-proxy@.service` in any state. */
  readonly proxyUnits: number;
  /** Processes that are a proxy, the spare one included. */
  readonly proxies: number;
};

type Process = {
  readonly pid: number;
  readonly name: string;
  readonly state: string;
  readonly parent: number;
};

function processes(): Process[] {
  return readdirSync("/proc").flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return [];
    try {
      const text = readFileSync(`/proc/${entry}/stat`, "latin1");
      const end = text.lastIndexOf(")");
      const [state = "", parent] = text.slice(end + 2).split(" ");
      const name = text.slice(text.indexOf("(") + 1, end);
      return [{ pid: Number(entry), name, state, parent: Number(parent) }];
    } catch {
      return [];
    }
  });
}

const commandLine = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1");
  } catch {
    return "";
  }
};

const said = (...command: string[]): string => Bun.spawnSync(command).stdout.toString().trim();

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    return entry.isDirectory() ? filesBelow(path) : [path];
  });
}

/** Those that every look finds: clients come and go. */
function fewestDescriptors(pid: number): number {
  let fewest = Number.POSITIVE_INFINITY;
  for (let look = 0; look < DESCRIPTOR_LOOKS; look++) {
    fewest = Math.min(fewest, readdirSync(`/proc/${pid}/fd`).length);
    Bun.sleepSync(10);
  }
  return fewest;
}
const DESCRIPTOR_LOOKS = 10;

function programCensus(unit: string, all: readonly Process[]): ProgramCensus {
  const shown = said("systemctl", "show", "-p", "MainPID", "-p", "NFileDescriptorStore", unit);
  const value = (key: string): number => Number(new RegExp(`^${key}=(\\d+)$`, "m").exec(shown)?.[1] ?? -1);
  const pid = value("MainPID");
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "latin1");
  const kilobytes = (key: string): number =>
    Number(new RegExp(`^${key}:\\s+(\\d+)`, "m").exec(rollup)?.[1] ?? -1);
  return {
    pid,
    fds: fewestDescriptors(pid),
    privateKb: kilobytes("Private_Clean") + kilobytes("Private_Dirty"),
    stored: value("NFileDescriptorStore"),
    children: all.filter(({ parent }) => parent === pid).map(({ name, state }) => `${name} ${state}`),
  };
}

const all = processes();
const units = ["bureau-daemon", "bureau-launcher", "bureau-terminals"];
const census: Census = {
  programs: Object.fromEntries(units.map((unit) => [unit, programCensus(`${unit}.service`, all)])),
  zombies: all.filter(({ state }) => state === "Z").map(({ name, parent }) => `${name} of ${parent}`),
  files: ["/run/bureau", "/var/lib/bureau", "/tmp", "/var/tmp"].flatMap(filesBelow).sort(),
  proxyUnits: said("systemctl", "list-units", "--all", "--plain", "--no-legend", "bureau-proxy@*.service")
    .split("\n")
    .filter((line) => line !== "").length,
  proxies: all.filter(({ pid }) => commandLine(pid).includes("lib/bureau-proxy/main.js")).length,
};
console.log(JSON.stringify(census));
