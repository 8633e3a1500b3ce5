/**
 * The kernel limits a sandbox's resources: the real launcher on Debian's kernel with control groups (version 2),
 * in an emulated machine.
 */
import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { runtimeArguments } from "@bureau/os/runtime-command";
import { debianKernel } from "./debian-kernel.ts";
import { runGuest } from "./guest.ts";

/** A minute on two quiet cores, several on busy ones. */
const GUEST_MS_MAX = 900_000;
setDefaultTimeout(GUEST_MS_MAX + 60_000);

const root = resolve(import.meta.dirname, "../..");
const BUILD = "/opt/bureau";
const UNIT = "/sys/fs/cgroup/unit";
const users = ["root in the root group", "a user with a delegated group"] as const;

/** The last lines do what systemd does for a unit with `User=`, `Delegate=` and `DelegateSubgroup=`. */
const init = `#!/bin/sh
export PATH=/usr/bin:/usr/sbin
# bubblewrap changes its root, which the first one of a kernel does not let itself be.
if [ "$1" != moved ]; then
  mkdir /moved && mount --bind / /moved && cd /moved && mount --move . / && exec chroot . /init moved
fi
cd /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t cgroup2 cgroup2 /sys/fs/cgroup
chmod 1777 /tmp
ip link set lo up 2>/dev/null
export HOME=/root BUREAU_LOG=error
run="${[`${BUILD}/runtime/bun`, ...runtimeArguments].join(" ")} /opt/inside.js"
$run '${users[0]}' ${BUILD} >/dev/ttyS1 2>/dev/ttyS0
mkdir -p ${UNIT}/terminals
mkfifo -m 0666 /tmp/socket-path
for name in memory pids cpu; do echo +$name >/sys/fs/cgroup/cgroup.subtree_control; done
chown -R 1000:1000 ${UNIT}
as="setpriv --reuid 1000 --regid 1000 --clear-groups"
(echo 0 >${UNIT}/terminals/cgroup.procs; export HOME=/tmp; exec $as sh -c 'read path </tmp/socket-path; exec tmux -u -D -S "$path" -f /dev/null') 2>/dev/ttyS0 &
HOME=/tmp $as $run '${users[1]}' ${BUILD} /tmp/socket-path >/dev/ttyS1 2>/dev/ttyS0
sync
echo o >/proc/sysrq-trigger
sleep 10
`;

let said: { results: string; console: string };

beforeAll(async () => {
  const scratch = mkdtempSync(join(tmpdir(), "bureau-inside-"));
  try {
    const made = await Bun.build({
      entrypoints: [join(import.meta.dirname, "inside.ts")],
      target: "bun",
      outdir: scratch,
    });
    if (!made.success) throw new Error(made.logs.join("\n"));
    said = await runGuest(
      await debianKernel(),
      {
        programs: [
          ...[
            "sh",
            "env",
            "mount",
            "chroot",
            "mkdir",
            "mkfifo",
            "chmod",
            "chown",
            "sleep",
            "setpriv",
            "sync",
          ],
          ...["bwrap", "tmux", "head", "tail", "wc", "cat", "readlink", "mv", "keyctl"].filter((name) =>
            Bun.which(name),
          ),
        ],
        copied: ["/usr/share/terminfo/t", "/lib/terminfo/t", "/usr/lib/locale/C.utf8"],
        executables: [join(root, "dist/current/runtime/bun")],
        placed: { [join(root, "dist/current")]: BUILD, [join(scratch, "inside.js")]: "/opt/inside.js" },
        files: {
          "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/tmp:/bin/sh\n",
          "/etc/group": "root:x:0:\nalice:x:1000:\n",
          "/etc/nsswitch.conf": "passwd: files\ngroup: files\n",
        },
        init,
      },
      GUEST_MS_MAX,
    );
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
});

for (const user of users)
  test(`limits hold for ${user}`, () => {
    const lines = said.results.split(/\r?\n/).filter((line) => line.includes(user));
    if (!lines.some((line) => line.startsWith("ok")))
      throw new Error(`the guest said nothing:\n${said.console}\n${said.results}`);
    for (const line of lines) console.log(line);
    expect(lines.filter((line) => !line.startsWith("ok "))).toEqual([]);
    expect(lines.length).toBeGreaterThanOrEqual(6);
  });
