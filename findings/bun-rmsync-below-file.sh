#!/usr/bin/env bash
# Bun 1.4.5 (npm @oven/bun-linux-x64): rmSync(path, { force: true }) throws EFAULT when a parent of the path is a regular file.
#
# Node 20 throws ENOTDIR there, which says what is wrong. unlinkSync throws ENOTDIR in both. Code that cleans up with rmSync
# after a failed write below a file reports the odd error in place of the first one.
#
# Seen: bun rm=EFAULT unlink=ENOTDIR node rm=ENOTDIR unlink=ENOTDIR
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix . @oven/bun-linux-x64@1.4.5
cat > remove.mjs <<'JS'
import { rmSync, unlinkSync, writeFileSync } from "node:fs";
writeFileSync("file", "");
const code = (act) => {
  try {
    act();
    return "done";
  } catch (error) {
    return error.code;
  }
};
console.log(`rm=${code(() => rmSync("file/below", { force: true }))} unlink=${code(() => unlinkSync("file/below"))}`);
JS
seen="bun $(node_modules/@oven/bun-linux-x64/bin/bun remove.mjs) node $(node remove.mjs)"
echo "$seen"
[ "$seen" = "bun rm=EFAULT unlink=ENOTDIR node rm=ENOTDIR unlink=ENOTDIR" ]
