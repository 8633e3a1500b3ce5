#!/usr/bin/env bash
# Bun 1.4.5 (npm @oven/bun-linux-x64): fetch reads HTTP_PROXY and NO_PROXY from process.env at each request, sends loopback
# addresses through the proxy, and lets NO_PROXY win over a proxy that the request names.
#
# A server and a forward proxy listen on 127.0.0.1. With HTTP_PROXY set while the program runs, the next fetch of
# http://127.0.0.1 goes through the proxy. The option `proxy: ""` does not turn that off; deleting the variable does. A
# request that names its proxy goes directly when NO_PROXY holds the host.
#
# Seen: none=direct set-later=proxied empty-option=proxied deleted=direct option=proxied option-and-no-proxy=direct
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix . @oven/bun-linux-x64@1.4.5
cat > ask.ts <<'TS'
const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("direct") });
const proxy = Bun.listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    data(socket) {
      socket.end("HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nproxied");
    },
  },
});
const through = `http://127.0.0.1:${proxy.port}`;
const ask = async (options: object = {}) =>
  (await fetch(`http://127.0.0.1:${server.port}/`, { keepalive: false, ...options } as RequestInit)).text();
const seen = [`none=${await ask()}`];
process.env.HTTP_PROXY = through;
seen.push(`set-later=${await ask()}`, `empty-option=${await ask({ proxy: "" })}`);
delete process.env.HTTP_PROXY;
seen.push(`deleted=${await ask()}`, `option=${await ask({ proxy: through })}`);
process.env.NO_PROXY = "127.0.0.1";
seen.push(`option-and-no-proxy=${await ask({ proxy: through })}`);
console.log(seen.join(" "));
process.exit(0);
TS
seen=$(env -u HTTP_PROXY -u http_proxy -u NO_PROXY -u no_proxy node_modules/@oven/bun-linux-x64/bin/bun ask.ts)
echo "$seen"
[ "$seen" = "none=direct set-later=proxied empty-option=proxied deleted=direct option=proxied option-and-no-proxy=direct" ]
