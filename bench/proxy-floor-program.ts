/**
 * The least that a proxy on this runtime can be: its HTTP server and its HTTP client, with one header set and neither
 * policy nor limits. `bun proxy-floor-program.ts SOCKET UPSTREAM`
 */
const [unix = "", upstream = ""] = process.argv.slice(2);
Bun.serve({
  unix,
  fetch(request) {
    const headers = new Headers(request.headers);
    headers.set("authorization", "Bearer bench-credential");
    return fetch("http://localhost/small", {
      method: request.method,
      headers,
      unix: upstream,
      signal: request.signal,
      redirect: "manual",
      decompress: false,
    });
  },
});
console.log("ready");
