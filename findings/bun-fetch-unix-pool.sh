#!/usr/bin/env bash
# Bun 1.4.5 (npm @oven/bun-linux-x64): fetch(url, { unix }) keeps connections and looks them up by the socket's path.
#
# A server listens on a unix socket. A client fetches from it once. The socket file is removed and a second server listens
# at the same path. The next fetch still reaches the first server, through the kept connection. It does so even when the
# path has no file at all. `keepalive: false` on the request, or `Connection: close` in the answer, makes the next
# fetch open a new connection.
#
# Seen: replaced=first removed=first keepalive-false=second
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix . @oven/bun-linux-x64@1.4.5
cat > server.ts <<'TS'
Bun.serve({ unix: process.argv[2]!, fetch: () => new Response(process.argv[3]) });
console.log("ready");
TS
cat > client.ts <<'TS'
import { renameSync, rmSync } from "node:fs";
const path = `${process.cwd()}/a.sock`;
async function start(at: string, name: string) {
  const child = Bun.spawn([process.execPath, "server.ts", at, name], { stdout: "pipe" });
  await child.stdout.getReader().read();
  return child;
}
const ask = async (options: object = {}) =>
  (await fetch("http://localhost/", { unix: path, ...options } as RequestInit)).text();
const first = await start(path, "first");
const second = await start(`${process.cwd()}/b.sock`, "second");
await ask();
renameSync("b.sock", "a.sock");
const replaced = await ask();
renameSync("a.sock", "b.sock");
const removed = await ask();
renameSync("b.sock", "a.sock");
const fresh = await ask({ keepalive: false });
console.log(`replaced=${replaced} removed=${removed} keepalive-false=${fresh}`);
first.kill();
second.kill();
TS
seen=$(node_modules/@oven/bun-linux-x64/bin/bun client.ts)
echo "$seen"
[ "$seen" = "replaced=first removed=first keepalive-false=second" ]
