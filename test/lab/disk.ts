/**
 * A machine's disk: its image with a writable layer over it. Where the kernel cannot overlay
 * file systems it is a copy. It exists until the lab ends; reboots and power cuts keep it.
 */
import { randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Enclosure } from "./enclosure.ts";

/** A copy of an image is some 15,000 files. */
const COPY_MS_MAX = 5 * 60_000;

/** `$1`: root, `$2`: name, `$3`: machine id. Its own identity, as an installer leaves it. */
const individual = `
printf '%s\\n' "$2" > "$1/etc/hostname"
printf '%s\\n' "$3" > "$1/etc/machine-id"
if [ -e "$1/usr/bin/ssh-keygen" ]; then chroot "$1" ssh-keygen -A > /dev/null; fi
`;

/** Makes the disk of machine `name` in `folder`; returns its root, which exists in the enclosure only. */
export async function makeDisk(
  enclosure: Enclosure,
  image: string,
  folder: string,
  name: string,
): Promise<string> {
  const [upper, work, root] = ["upper", "work", "root"].map((part) => join(folder, part)) as [
    string,
    string,
    string,
  ];
  for (const path of [upper, work, root]) mkdirSync(path, { recursive: true });
  const layers = `lowerdir=${image},upperdir=${upper},workdir=${work}`;
  const mounted = await enclosure.execute(["mount", "-t", "overlay", "overlay", "-o", layers, root]);
  if (mounted.code !== 0)
    await enclosure.executeOk(["cp", "-a", "--reflink=auto", `${image}/.`, root], { timeoutMs: COPY_MS_MAX });
  const id = randomUUID().replaceAll("-", "");
  await enclosure.executeOk(["sh", "-euc", individual, "individual", root, name, id]);
  return root;
}
