#!/usr/bin/env bash
# Bun 1.4.5 (npm @oven/bun-linux-x64): server.timeout(request, 0) lifts the idle timeout of a request that came over TCP,
# and has no effect on a request that came over a unix socket.
#
# Two servers with idleTimeout: 1 (second) answer after twelve seconds, and call server.timeout(request, 0) first. The
# answer arrives over TCP. Over the unix socket the connection is cut. idleTimeout: 0 for the whole server works for both.
#
# Seen: tcp=answered unix=cut unix-idle-0=answered
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix . @oven/bun-linux-x64@1.4.5
cat > both.ts <<'TS'
const serve = (options: object, idleTimeout: number) =>
  Bun.serve({
    ...options,
    idleTimeout,
    async fetch(request, server) {
      server.timeout(request, 0);
      await Bun.sleep(12_000);
      return new Response("late");
    },
  } as never);
const tcp = serve({ port: 0, hostname: "127.0.0.1" }, 1);
const unix = serve({ unix: "a.sock" }, 1);
const idle = serve({ unix: "b.sock" }, 0);
const ask = (url: string, options: object) =>
  fetch(url, options as RequestInit).then(
    async (answer) => ((await answer.text()) === "late" ? "answered" : "odd"),
    () => "cut",
  );
const [overTcp, overUnix, withoutIdle] = await Promise.all([
  ask(`http://127.0.0.1:${tcp.port}/`, {}),
  ask("http://localhost/", { unix: "a.sock" }),
  ask("http://localhost/", { unix: "b.sock" }),
]);
console.log(`tcp=${overTcp} unix=${overUnix} unix-idle-0=${withoutIdle}`);
for (const server of [tcp, unix, idle]) void server.stop(true);
TS
seen=$(node_modules/@oven/bun-linux-x64/bin/bun both.ts)
echo "$seen"
[ "$seen" = "tcp=answered unix=cut unix-idle-0=answered" ]
