/**
 * Runs commands inside a running machine: in its namespaces and control groups, like a login of one of its users.
 * It needs only the holder process of the machine, so it also enters machines of another process's lab.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { childrenOf, identify, isAlive, type ProcessId } from "@bureau/os/process-table";
import { killExcept, makeCgroup, removeTree } from "./cgroup.ts";
import { type CommandResult, execute, quote } from "./execute.ts";

export type RunOptions = {
  /** Name of a user of the machine; `root` unless `boot` was told otherwise. */
  readonly user?: string;
  /** Given to the command's standard input, which otherwise is empty. */
  readonly input?: string | Uint8Array;
  /** Added to what a login has. */
  readonly env?: Readonly<Record<string, string>>;
  /** Its working folder; default the user's home. */
  readonly cwd?: string;
  /** Default two minutes. */
  readonly timeoutMs?: number;
};

const RUN_MS_MAX = 120_000;

/** What the machine sees as the root of its control groups, below the machine's own. */
const PAYLOAD = "payload";

export class WayIn {
  #runs = 0;
  /** `holder` enters the lab's enclosure and runs systemd-nspawn; `cgroup` is the machine's. */
  constructor(
    readonly holder: ProcessId,
    readonly cgroup: string,
  ) {}

  /** The machine's first process, as this host knows it; undefined before it is there and when it is gone. */
  firstProcess(): ProcessId | undefined {
    if (!isAlive(this.holder)) return undefined;
    const nspawn = childrenOf(this.holder.pid)[0];
    const first = nspawn === undefined ? undefined : childrenOf(nspawn).find(isFirstOfMachine);
    return first === undefined ? undefined : identify(first);
  }

  /** Runs a line of shell as `user`; its exit code is an answer. @throws BureauError `timeout`, `conflict` when off */
  async run(command: string, user: string, options: RunOptions): Promise<CommandResult> {
    const login = this.#login(command, user, options);
    const group = this.#group(`${process.pid}-${++this.#runs}`);
    try {
      return await execute(inGroup(group, login), {
        label: `"${command}"`,
        timeoutMs: options.timeoutMs ?? RUN_MS_MAX,
        kill: (pid) => killExcept(group, pid),
        ...(options.input === undefined ? {} : { input: options.input }),
      });
    } finally {
      // Background processes of the command keep its group.
      removeTree(group);
    }
  }

  /** A person's shell on this terminal; resolves with its exit code when they leave it. */
  async shell(user: string): Promise<number> {
    // `script` gives the shell a terminal that the machine itself knows.
    const login = this.#login("exec script --quiet --return --command 'bash -l' /dev/null", user, {
      env: { TERM: process.env["TERM"] ?? "linux" },
    });
    const group = this.#group(`${process.pid}-shell`);
    const code = await Bun.spawn(inGroup(group, login), { stdio: ["inherit", "inherit", "inherit"] }).exited;
    removeTree(group);
    return code;
  }

  #group(name: string): string {
    return makeCgroup(join(this.cgroup, PAYLOAD, "lab.run", name));
  }

  /** `command` in the machine's namespaces, by a login shell of the user. */
  #login(command: string, user: string, options: RunOptions): string[] {
    const first = this.firstProcess();
    if (first === undefined) throw new BureauError("conflict", `Cannot run "${command}": the machine is off`);
    const account = principalNameOf(first, user);
    const variables = {
      HOME: account.home,
      USER: user,
      LOGNAME: user,
      SHELL: "/bin/bash",
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      LANG: "C.UTF-8",
      TERM: "dumb",
      ...options.env,
    };
    return [
      ...["nsenter", "--target", String(first.pid)],
      ...["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"],
      ...["env", "-i", ...Object.entries(variables).map(([name, value]) => `${name}=${value}`)],
      // Groups are read in the machine now, so recent changes apply.
      ...["setpriv", `--reuid=${account.uid}`, `--regid=${account.gid}`, "--init-groups", "--"],
      ...["bash", "-lc", `${goTo(options.cwd, account.home)}\n${command}`],
    ];
  }
}

/** Moves into the control group, then becomes `command`. */
export const inGroup = (group: string, command: readonly string[]): string[] => [
  ...["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', group],
  ...command,
];

/** Many system users have a missing home folder. */
const goTo = (cwd: string | undefined, home: string): string =>
  cwd === undefined ? `cd -- ${quote(home)} 2> /dev/null || cd /` : `cd -- ${quote(cwd)} || exit 1`;

function principalNameOf(first: ProcessId, user: string): { uid: string; gid: string; home: string } {
  for (const line of readFileSync(`/proc/${first.pid}/root/etc/passwd`, "utf8").split("\n")) {
    const [name, , uid, gid, , home] = line.split(":");
    if (name === user && uid !== undefined && gid !== undefined) return { uid, gid, home: home || "/" };
  }
  throw new BureauError("not-found", `The machine has no user "${user}"`);
}

/** True for the first process of a pid namespace: what systemd-nspawn made before that is not the machine yet. */
function isFirstOfMachine(pid: number): boolean {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const pids = /^NSpid:\s*(.*)$/mu.exec(status)?.[1]?.split(/\s+/u) ?? [];
    // This host's, the enclosure's, the machine's.
    return pids.length >= 3 && pids.at(-1) === "1";
  } catch {
    return false;
  }
}
