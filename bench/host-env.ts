/**
 * The bytes an upgrade moves when one line of the proxy changes: builds twice and sums the differences.
 * With Nix, as its store paths would be copied; always, as plain files would.
 */
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { buildInto, type Manifest } from "../scripts/build.ts";
import { makeHostEnv } from "../scripts/host-env.ts";
import { closureSizes, hasNix } from "../scripts/nix.ts";
import { type Figure, figure } from "./statistics.ts";

const BYTES_MAX_AIM = "< 2000 kB";
/** The runtime alone is most of a build, and moves only when it changes. */
const MOVED_SHARE_MAX = 0.05;

/** As if a line was added at the end of the proxy's first file. */
const oneLine: Bun.BunPlugin = {
  name: "one line",
  setup(builder) {
    builder.onLoad({ filter: /\/packages\/proxy\/src\/main\.ts$/u }, ({ path }) => ({
      contents: `${readFileSync(path, "utf8")}\nObject.assign(globalThis, { changed: true });\n`,
      loader: "ts",
    }));
  },
};

export async function benchHostEnv(): Promise<Figure[]> {
  const out = mkdtempSync(join(tmpdir(), "bureau-bench-host-env-"));
  try {
    const [before, after] = [join(out, "before"), join(out, "after")];
    await buildInto(before);
    await buildInto(after, [oneLine]);
    const figures = fileFigures(before, after);
    if (hasNix()) figures.push(...nixFigures(before, after, out));
    return figures;
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}

function fileFigures(before: string, after: string): Figure[] {
  const old = digests(before);
  const files = [...digests(after)];
  const changed = files.filter(([path, digest]) => old.get(path) !== digest).map(([path]) => path);
  const kb = (paths: readonly string[]): number =>
    paths.reduce((sum, path) => sum + statSync(join(after, path)).size, 0) / 1000;
  const all = { name: "all of it", value: kb(files.map(([path]) => path)) };
  const [one, two] = [before, after].map(
    (folder) => JSON.parse(readFileSync(join(folder, "build.json"), "utf8")) as Manifest,
  );
  const restarted = Object.keys(two?.programs ?? {}).filter(
    (name) => one?.programs[name]?.sha256 !== two?.programs[name]?.sha256,
  );
  return [
    figure("one line of the proxy, files to move", kb(changed), "kB", all, BYTES_MAX_AIM, MOVED_SHARE_MAX),
    figure(`  programs to restart (${restarted.join(", ")})`, restarted.length, "programs", undefined, "1"),
  ];
}

function nixFigures(before: string, after: string, out: string): Figure[] {
  const made = (build: string): Map<string, number> => closureSizes(makeHostEnv({ build, out, nix: true }));
  const [old, now] = [made(before), made(after)];
  const sum = (paths: readonly [string, number][]): number =>
    paths.reduce((total, [, bytes]) => total + bytes, 0) / 1000;
  const missing = [...now].filter(([path]) => !old.has(path));
  const all = { name: "the whole closure", value: sum([...now]) };
  return [
    figure("one line of the proxy, store paths to copy", sum(missing), "kB", all, BYTES_MAX_AIM),
    figure("  store paths", missing.length, "paths", { name: "in the closure", value: now.size }),
  ];
}

function digests(folder: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    found.set(relative(folder, path), createHash("sha256").update(readFileSync(path)).digest("hex"));
  }
  return found;
}

if (import.meta.main) console.log(JSON.stringify(await benchHostEnv(), null, 2));
