/** An emulated machine (qemu without acceleration). Any host runs it, even one without virtualization. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execute, lastLines } from "../lab/execute.ts";
import { type InitramfsRecipe, makeInitramfs } from "./initramfs.ts";

const MEMORY_MIB = 1_024;

export type GuestResult = {
  /** The output on /dev/ttyS1. */
  readonly results: string;
  /** The output of the kernel and the first program. */
  readonly console: string;
};

/** Boots `kernel` into a disk made by `recipe`, and waits until it powers off. @throws BureauError `timeout` */
export async function runGuest(
  kernel: string,
  recipe: InitramfsRecipe,
  timeoutMs: number,
): Promise<GuestResult> {
  const scratch = mkdtempSync(join(tmpdir(), "bureau-guest-"));
  try {
    const [archive, results] = [join(scratch, "initramfs"), join(scratch, "results")];
    await makeInitramfs(recipe, join(scratch, "tree"), archive);
    const { stdout, stderr } = await execute(
      [
        // It ends with the test program, even when that is killed.
        ...["setpriv", "--pdeathsig", "KILL", "--"],
        ...["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", String(MEMORY_MIB)],
        ...["-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio", "-serial", `file:${results}`],
        ...["-kernel", kernel, "-initrd", archive, "-append", "console=ttyS0 quiet panic=-1"],
      ],
      { timeoutMs },
    );
    return { results: readFileSync(results, "utf8"), console: lastLines(`${stdout}${stderr}`) };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
