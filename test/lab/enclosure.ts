/**
 * What encloses a lab: mount, pid and network namespaces of its own. The lab's disks are mounted, its machines run and
 * its network lies only in there, so two labs cannot meet, nothing of this host can be reached from one nor one from
 * outside, and the kernel takes everything with it when the enclosure ends.
 *
 * Its first process waits for the end of a pipe this process holds. When that comes, which is also when this process is
 * killed, it ends whatever runs inside, unmounts, and removes the lab's folder and control groups.
 */
import { rmSync } from "node:fs";
import { systemClock } from "@bureau/kit/clock";
import { assert, BureauError } from "@bureau/kit/errors";
import { childrenOf, identify, type ProcessId, waitUntilGone } from "@bureau/os/process-table";
import { cgroupName } from "./cgroup.ts";
import { type CommandResult, type ExecuteOptions, execute, executeOk } from "./execute.ts";

export type Enclosure = AsyncDisposable & {
  /** The outermost process; gone when everything is cleared up. */
  readonly process: ProcessId;
  /** `command` as it is run inside: the enclosure's mounts, processes and network. */
  enter(command: readonly string[]): string[];
  execute(command: readonly string[], options?: ExecuteOptions): Promise<CommandResult>;
  executeOk(command: readonly string[], options?: ExecuteOptions): Promise<string>;
};

/** Clearing up is tried at intervals of a tenth of a second: killed processes leave, then their groups can go. */
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

/** Makes the namespaces around `folder`, which goes with them. */
export async function openEnclosure(tag: string, folder: string): Promise<Enclosure> {
  const namespaces = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
  const child = Bun.spawn(
    ["unshare", ...namespaces, "sh", "-c", firstProcess, "enclosure", folder, cgroupName(tag)],
    // A session of its own: Ctrl-C at the terminal must not end it before it has cleared up.
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
      // It limits itself; should it hang, the kernel still takes everything but the folder.
      if (!(await waitUntilGone(outermost, CLEARING_MS_MAX, systemClock))) child.kill("SIGKILL");
      await child.exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
