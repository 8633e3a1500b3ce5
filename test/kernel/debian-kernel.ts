/** Debian's kernel for cloud machines, as apt offers it on this host: downloaded and unpacked once, never installed. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { BureauError } from "@bureau/kit/errors";
import { testCache } from "@bureau/testkit/test-cache";
import { executeOk } from "../lab/execute.ts";

const META_PACKAGE = "linux-image-cloud-amd64";

/** The path of a bootable kernel. @throws BureauError when apt knows none, or cannot download it */
export async function debianKernel(): Promise<string> {
  const name = await kernelPackage();
  const cache = testCache("kernels");
  const folder = join(cache, name);
  if (!existsSync(folder)) {
    mkdirSync(cache, { recursive: true });
    const scratch = mkdtempSync(join(cache, "new-"));
    // apt downloads as a user of its own.
    chmodSync(scratch, 0o755);
    try {
      await executeOk(["env", "-C", scratch, "apt-get", "download", "-q", name], { timeoutMs: 300_000 });
      const archive = readdirSync(scratch).find((entry) => entry.endsWith(".deb"));
      if (archive === undefined) throw new BureauError("not-found", `apt-get download brought no "${name}"`);
      await executeOk(["dpkg-deb", "-x", join(scratch, archive), scratch], { timeoutMs: 120_000 });
      for (const entry of readdirSync(scratch))
        if (entry !== "boot") rmSync(join(scratch, entry), { recursive: true });
      renameSync(scratch, folder);
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  }
  const image = readdirSync(join(folder, "boot")).find((entry) => entry.startsWith("vmlinuz-"));
  if (image === undefined) throw new BureauError("not-found", `There is no kernel in "${folder}/boot"`);
  return join(folder, "boot", image);
}

/** The newest one, which the meta package depends on. */
async function kernelPackage(): Promise<string> {
  const said = await executeOk(["apt-cache", "show", "--no-all-versions", META_PACKAGE], {
    timeoutMs: 60_000,
  });
  const name = /^Depends: (linux-image-\S+)/m.exec(said)?.[1];
  if (name !== undefined) return name;
  throw new BureauError("not-found", `apt knows no kernel: "${META_PACKAGE}" depends on none`, {
    hint: "this test needs Debian's package lists for amd64: apt-get update",
  });
}
