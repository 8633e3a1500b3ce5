/**
 * A lab's enclosure: its own mount, pid and network namespaces. The lab's disks, machines and network exist only in them,
 * so labs are isolated from each other and from this host, and the kernel removes everything when the enclosure
 * ends.
 *
 * Its first process waits for the end of a pipe that this process holds. At its end, also when this process is
 * killed, it kills all processes inside, unmounts, and removes the lab's folder and control groups.
 */
import { rmSync } from "node:fs";
import { systemClock } from "@bureau/kit/clock";
import { assert, BureauError } from "@bureau/kit/errors";
import { waitUntilGone } from "@bureau/os/process-end";
import { childrenOf, identify, type ProcessId } from "@bureau/os/process-table";
import { cgroupName } from "./cgroup.ts";
import { type CommandResult, type ExecuteOptions, execute, executeOk } from "./execute.ts";

export type Enclosure = AsyncDisposable & {
  /** The outermost process; it ends after the clean-up. */
  readonly process: ProcessId;
  /** `command` with the enclosure's mounts, processes and network. */
  enter(command: readonly string[]): string[];
  execute(command: readonly string[], options?: ExecuteOptions): Promise<CommandResult>;
  executeOk(command: readonly string[], options?: ExecuteOptions): Promise<string>;
};

/** Interval of clean-up tries, 0.1 s: a group can be removed only after its killed processes ended. */
const CLEARING_TRIES_MAX = 100;
const CLEARING_MS_MAX = 30_000;

/** `$1`: the lab's folder, `$2`: name of its control group. */
const firstProcess = `
set -eu
# Everything of ours that programs keep in /run (names of networks, locks of systemd-nspawn) stays inside.
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir /run/netns
ip link set lo up
echo ready
cat > /dev/null
set +e
kill -KILL -1
tries=0
while [ "$tries" -lt ${CLEARING_TRIES_MAX} ]; do
  tries=$((tries + 1))
  grep -F " $1/" /proc/self/mounts | cut -d' ' -f2 | sort -r | while read -r at; do umount -l "$at"; done
  left=
  for group in /sys/fs/cgroup/"$2" /sys/fs/cgroup/*/"$2"; do
    [ -d "$group" ] || continue
    find "$group" -depth -type d -exec rmdir {} + 2> /dev/null
    [ ! -d "$group" ] || left=yes
  done
  rm -rf --one-file-system "$1" 2> /dev/null
  [ -z "$left" ] && [ ! -e "$1" ] && exit 0
  sleep 0.1
done
exit 1
`;

/** Creates the namespaces around `folder`, which is removed with them. */
export async function openEnclosure(tag: string, folder: string): Promise<Enclosure> {
  const namespaces = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
  const child = Bun.spawn(
    ["unshare", ...namespaces, "sh", "-c", firstProcess, "enclosure", folder, cgroupName(tag)],
    // A session of its own, so that Ctrl-C at the terminal does not end it before its clean-up.
    { stdin: "pipe", stdout: "pipe", stderr: "pipe", detached: true },
  );
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  if (value === undefined) {
    throw new BureauError("unsupported", `Cannot make the lab's namespaces: ${await child.stderr.text()}`, {
      hint: "the lab needs root, and a kernel that lets root make mount, pid and network namespaces",
    });
  }
  const outermost = identify(child.pid);
  const [first] = childrenOf(child.pid);
  assert(outermost !== undefined && first !== undefined, "an enclosure that said it is ready lives");
  const enter = (command: readonly string[]): string[] => [
    "nsenter",
    "--target",
    String(first),
    "--mount",
    "--net",
    "--pid",
    "--",
    ...command,
  ];
  return {
    process: outermost,
    enter,
    execute: (command, options) => execute(enter(command), options),
    executeOk: (command, options) => executeOk(enter(command), options),
    async [Symbol.asyncDispose]() {
      await child.stdin.end();
      // It has its own limit. If it hangs, the kernel still removes everything but the folder.
      if (!(await waitUntilGone(outermost, CLEARING_MS_MAX, systemClock))) child.kill("SIGKILL");
      await child.exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
