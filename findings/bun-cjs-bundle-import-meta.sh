#!/usr/bin/env bash
# Bun 1.4.5 (npm @oven/bun-linux-x64): in a bundle of `bun build --format=cjs`, import.meta keeps the place of the source.
#
# In a bundle of ES modules `import.meta.dir` is the folder from which the bundle runs. In a CommonJS bundle of the same
# file it is a text: the folder that the source had when the bundle was built. A program that finds its files beside itself
# works where it was built, and looks in a folder of the build machine everywhere else. The same holds for `import.meta.url` and
# `import.meta.path`. Bytecode of separate files needs CommonJS, so a switch to
# `--bytecode` changes what the program reads, without a warning. `Bun.main` is right in both.
#
# Output seen: `esm: import.meta of the bundle`, `cjs: import.meta of the source`, and `Bun.main of the bundle` for both.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix . @oven/bun-linux-x64@1.4.5
bun=node_modules/@oven/bun-linux-x64/bin/bun
mkdir source elsewhere
cat >source/main.ts <<'EOF2'
import { dirname } from "node:path";
const here = process.argv[2];
const place = (folder: string): string => (folder === here ? "the bundle" : folder.endsWith("/source") ? "the source" : folder);
const metas = [import.meta.dir, dirname(import.meta.path), dirname(new URL(import.meta.url).pathname)].map(place);
console.log(`import.meta of ${[...new Set(metas)].join(" and ")}, Bun.main of ${place(dirname(Bun.main))}`);
EOF2
for format in esm cjs; do
  "$bun" build --format=$format --target=bun --outfile="elsewhere/$format/main.js" source/main.ts >/dev/null
  echo "$format: $("$bun" "$PWD/elsewhere/$format/main.js" "$PWD/elsewhere/$format")" | tee "$format"
done
grep -qx "esm: import.meta of the bundle, Bun.main of the bundle" esm
grep -qx "cjs: import.meta of the source, Bun.main of the bundle" cjs
