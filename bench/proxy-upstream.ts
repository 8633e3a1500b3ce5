/** The upstream of bench/proxy.ts: a small JSON answer over a unix socket. `bun proxy-upstream.ts SOCKET` */
const [unix = ""] = process.argv.slice(2);
Bun.serve({
  unix,
  routes: { "/small": Response.json({ status: "ok", items: [1, 2, 3], text: "a small answer of an API" }) },
  fetch: () => new Response("not found", { status: 404 }),
});
console.log("ready");
