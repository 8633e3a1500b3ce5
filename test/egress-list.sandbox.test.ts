/** What a sandboxed program reaches with stock curl: the hosts in its template's `egress`, and no others. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, useBureau } from "@bureau/testkit/use-bureau";

const running = useBureau();

test("curl reaches the listed host by CONNECT and by plain HTTP, and is told why others are refused", async () => {
  using listed = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: () => new Response("reached the listed"),
  });
  using other = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("REACHED THE OTHER") });
  const file = join(running().home, "listed.json");
  writeFileSync(
    file,
    JSON.stringify({
      description: "may reach one host",
      inherits: ["bureau/template:agent"],
      // The list implies a network of its own.
      namespaces: { net: false },
      proxy_services: { gh: { provider: "github" } },
      egress: [`127.0.0.1:${listed.port}`],
    }),
  );
  await running().json("template", "publish", "bureau/template:listed", "--file", file);
  const curl = 'curl -sS --max-time 5 --noproxy ""';
  const refused = [
    `http://127.0.0.1:${other.port}/`,
    "http://169.254.169.254/latest/meta-data",
    "http://[::1]:80/",
    "http://localhost:80/",
    "http://example.com/",
  ];
  const script = [
    `${curl} http://127.0.0.1:${listed.port}/ | sed s/^/plain:/`,
    "echo",
    `${curl} --proxytunnel http://127.0.0.1:${listed.port}/ | sed s/^/tunnel:/`,
    "echo",
    ...refused.flatMap((url) => [`${curl} "${url}"`, `${curl} -p "${url}" 2>&1`]),
    `curl -sS --max-time 5 --noproxy "*" http://127.0.0.1:${listed.port}/ 2>&1 | sed s/^/direct:/`,
    "echo; echo over",
  ].join("\n");
  await running().json(
    ...["agent", "create", "curious", "--template", "bureau/template:listed", "--restart-policy", "never"],
    ...["--command", script],
  );
  const { reach } = await running().json<{ reach: unknown }>("agent", "show", "curious");
  expect(reach).toEqual({
    upstreams: [{ name: "gh", upstream: "https://api.github.com", credentials: ["GITHUB_TOKEN"] }],
    egress: [`127.0.0.1:${listed.port}`],
    network: "own",
  });
  expect((await running().run("agent", "show", "curious")).stdout).toContain(
    "https://api.github.com (/http/gh/), with GITHUB_TOKEN",
  );
  const logs = await eventually(async () => {
    const { stdout } = await running().run("agent", "logs", "curious");
    return /^over$/mu.test(stdout) ? stdout.replaceAll("\n", " ") : undefined;
  });
  expect(logs).toContain("plain:reached the listed");
  expect(logs).toContain("tunnel:reached the listed");
  expect(logs).not.toContain("REACHED THE OTHER");
  expect(logs).not.toContain("direct:reached");
  for (const target of [
    `127.0.0.1:${other.port}`,
    "169.254.169.254:80",
    "[::1]:80",
    "localhost:80",
    "example.com:80",
  ])
    expect(logs).toContain(`Cannot reach ${target}: it is not in the template's egress`);
  expect(logs.match(/response 403/gu)).toHaveLength(refused.length);
}, 90_000);
