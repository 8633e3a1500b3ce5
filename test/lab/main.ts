/**
 * `npm run lab -- COMMAND`: the lab for a person, as root.
 *
 * ```
 * up [--engine embedded|synapse] [--nix] [NAME…]   boots machines (m1 if none is named) that stay until `down`
 * list                                             labs on this host and their machines
 * shell NAME [--user USER]                         a shell in a machine: of a lab that is up, or freshly booted
 * down [TAG…]                                      removes what `up` made: every lab, or the named ones
 * ```
 */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { systemClock } from "@bureau/kit/clock";
import { BureauError, isBureauError, messageOf } from "@bureau/kit/errors";
import { waitFor } from "@bureau/kit/wait-for";
import { aborted } from "@bureau/os/lifecycle";
import { waitUntilGone } from "@bureau/os/process-end";
import { signalProcess } from "@bureau/os/process-table";
import { runtimeCommand } from "@bureau/os/runtime-command";
import { build } from "../../scripts/build.ts";
import { installTools, labTools } from "../../scripts/install.mjs";
import { machineCgroup } from "./cgroup.ts";
import { type Lab, openLab } from "./lab.ts";
import { type LabRecord, livingLabs, sweepLabs } from "./lab-record.ts";
import { WayIn } from "./way-in.ts";

const usage = `npm run lab -- up [--engine embedded|synapse] [--nix] [NAME…]
npm run lab -- list
npm run lab -- shell NAME [--user USER]
npm run lab -- down [TAG…]`;

/** Images may have to be made first. */
const UP_MS_MAX = 20 * 60_000;
const DOWN_MS_MAX = 60_000;

type Flags = { readonly engine?: string; readonly nix?: boolean; readonly user?: string };

const commands: Readonly<Record<string, (names: string[], flags: Flags) => Promise<number>>> = {
  up,
  list,
  shell,
  down,
  // What `up` leaves running: it owns the lab.
  keep,
};

async function main(): Promise<number> {
  const { positionals, values } = parseArgs({
    args: process.argv.slice(2),
    allowPositionals: true,
    options: { engine: { type: "string" }, nix: { type: "boolean" }, user: { type: "string" } },
  });
  const [name = "", ...rest] = positionals;
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (command === undefined)
    throw new BureauError("invalid-input", `There is no command "${name}"`, { hint: usage });
  if (process.getuid?.() !== 0)
    throw new BureauError("unsupported", "The lab boots machines, which needs root", {
      hint: `sudo npm run lab -- ${process.argv.slice(2).join(" ")}`,
    });
  return await command(rest, values);
}

async function up(names: string[], flags: Flags): Promise<number> {
  await prepare();
  engineOf(flags);
  const scratch = mkdtempSync(join(tmpdir(), "bureau-lab-up-"));
  try {
    const { record, said } = await startKeeper(join(scratch, "log"));
    if (record === undefined)
      throw new BureauError("timeout", `The lab of ${names.join(", ")} did not come up: ${said}`);
    process.stdout.write(`${said}${describe(record)}`);
    return 0;
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** Starts the process that owns the lab, with this process's arguments; waits until everything is up. */
async function startKeeper(logFile: string): Promise<{ record: LabRecord | undefined; said: string }> {
  const log = openSync(logFile, "a");
  const child = Bun.spawn(runtimeCommand(import.meta.path, "keep", ...process.argv.slice(3)), {
    stdio: ["ignore", log, log],
    detached: true,
  });
  closeSync(log);
  child.unref();
  const isUp = async (): Promise<LabRecord | undefined> => {
    if (child.exitCode !== null) throw new BureauError("failed", readFileSync(logFile, "utf8").trim());
    return livingLabs().find((record) => record.owner.pid === child.pid && record.ready);
  };
  const record = await waitFor(isUp, { timeoutMs: UP_MS_MAX, clock: systemClock });
  return { record, said: readFileSync(logFile, "utf8") };
}

async function keep(names: string[], flags: Flags): Promise<number> {
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => stop.abort());
  await using lab = await openLab({ kind: "up", say: (line) => console.log(line) });
  const engine = engineOf(flags);
  const [hs] = await Promise.all([
    engine === undefined ? undefined : lab.homeserver({ engine }),
    ...(names.length === 0 && engine === undefined ? ["m1"] : names).map((name) => boot(lab, name, flags)),
  ]);
  if (hs !== undefined)
    console.log(`homeserver ${hs.url} (${hs.serverName}), registration token ${hs.registrationToken}`);
  lab.markReady();
  await aborted(stop.signal);
  return 0;
}

async function list(): Promise<number> {
  await sweepLabs();
  const labs = livingLabs();
  process.stdout.write(labs.length === 0 ? "no lab\n" : labs.map(describe).join(""));
  return 0;
}

async function shell(names: string[], flags: Flags): Promise<number> {
  const [name] = names;
  if (name === undefined) throw new BureauError("invalid-input", "Which machine?", { hint: usage });
  const user = flags.user ?? "root";
  for (const record of livingLabs()) {
    const holder = record.machines.find((machine) => machine.name === name)?.holder;
    if (holder !== undefined) return await new WayIn(holder, machineCgroup(record.tag, name)).shell(user);
  }
  await prepare();
  await using lab = await openLab({ say: (line) => console.error(line) });
  return await (await boot(lab, name, flags)).shell(user);
}

async function down(tags: string[]): Promise<number> {
  const labs = livingLabs().filter(
    ({ kind, tag }) => kind === "up" && (tags.length === 0 || tags.includes(tag)),
  );
  for (const { owner } of labs) signalProcess(owner, "SIGTERM");
  await Promise.all(labs.map(({ owner }) => waitUntilGone(owner, DOWN_MS_MAX, systemClock)));
  await sweepLabs();
  console.log(labs.length === 0 ? "no lab was up" : `gone: ${labs.map(({ tag }) => tag).join(", ")}`);
  return 0;
}

async function prepare(): Promise<void> {
  installTools(labTools);
  await build();
}

const boot = (lab: Lab, name: string, flags: Flags) =>
  lab.boot(name, { image: flags.nix === true ? "nix" : "plain" });

function engineOf({ engine }: Flags): "embedded" | "synapse" | undefined {
  if (engine === undefined || engine === "embedded" || engine === "synapse") return engine;
  throw new BureauError("invalid-input", `There is no homeserver engine "${engine}"`, { hint: usage });
}

const describe = ({ tag, kind, folder, machines }: LabRecord): string =>
  [
    `lab ${tag} (${kind === "up" ? `up; npm run lab -- down ${tag}` : "of a run"}) in ${folder}`,
    ...machines.map(
      ({ name, address, holder }) =>
        `  ${name.padEnd(12)} ${address.padEnd(14)} ${holder === undefined ? "off" : "on"}`,
    ),
    "",
  ].join("\n");

try {
  process.exitCode = await main();
} catch (error) {
  console.error(messageOf(error));
  if (isBureauError(error) && error.hint !== "") console.error(`  → ${error.hint}`);
  process.exitCode = 1;
}
