/** A third-party HTTP server as a service principal, and outside services reached with an added credential. */
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { sandboxPaths } from "@bureau/os/layout";
import { findByArguments, identify, signalProcess } from "@bureau/os/process-table";
import { parseFleet, parsePrincipalName } from "@bureau/schema/refs";
import { eventually, useBureau } from "@bureau/testkit/use-bureau";

const running = useBureau();

/** A port of the sandbox's own network. It distinguishes its programs from those of a concurrent test run. */
const port = String(10_000 + (process.pid % 50_000));
const listing = async (): Promise<string | undefined> => {
  const { listen } = sandboxPaths(
    running().layout,
    parseFleet("bureau/fleet/local"),
    parsePrincipalName("service/web"),
  );
  const answer = await fetch("http://service/", { unix: join(listen, "service.sock") }).catch(
    () => undefined,
  );
  return answer?.ok === true ? answer.text() : undefined;
};
describe("a third-party HTTP server as a service", () => {
  test("serves on the service's socket, and again after it was killed", async () => {
    const server = `python3 -m http.server ${port} --bind 127.0.0.1`;
    const bridge = `bureau-bridge --listen unix:/run/bureau/listen/service.sock --connect tcp:127.0.0.1:${port} -- ${server}`;
    const created = await running().json<{ state: string }>(
      ...[
        "agent",
        "create",
        "service/web",
        "--template",
        "bureau/template:service",
        "--command",
        `exec ${bridge}`,
      ],
    );
    expect(created.state).toBe("running");
    expect(await eventually(listing)).toContain("Directory listing");
    const before = findByArguments("http.server", port);
    expect(before).toHaveLength(2);
    for (const process of before) signalProcess(process, "SIGKILL");
    await eventually(async () =>
      findByArguments("http.server", port).length === 2 &&
      before.every(({ pid }) => identify(pid) === undefined)
        ? true
        : undefined,
    );
    expect(await eventually(listing)).toContain("Directory listing");
    await running().json("agent", "destroy", "service/web");
    expect(findByArguments("http.server", port)).toEqual([]);
  }, 90_000);
});

describe("a service of the outside, declared by the template", () => {
  test("is reached through the proxy, which adds the credential the agent never sees", async () => {
    const seen: (string | null)[] = [];
    using upstream = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch(request) {
        seen.push(request.headers.get("authorization"));
        return new Response(`you asked for ${new URL(request.url).pathname}`);
      },
    });
    const file = join(running().home, "outside.json");
    const inherits = ["bureau/template:agent"];
    const outside = {
      upstream: `http://127.0.0.1:${upstream.port}/api`,
      inject_headers: { Authorization: "API_KEY" },
      auth_scheme: "bearer",
    };
    const template = { description: "reaches outside", inherits, proxy_services: { outside } };
    writeFileSync(file, JSON.stringify(template));
    writeFileSync(join(running().home, "key"), "the-key\n");
    await running().json("template", "publish", "bureau/template:outside", "--file", file);
    await running().json(
      ...["agent", "create", "caller", "--template", "bureau/template:outside", "--restart-policy", "never"],
      ...["--credential", `API_KEY=${join(running().home, "key")}`],
      ...["--command", `env; exec bureau-bridge -- sh -c '${fetchWithBun}'`],
    );
    const logs = await eventually(async () => {
      const { stdout } = await running().run("agent", "logs", "caller");
      return stdout.includes("you asked for") ? stdout : undefined;
    });
    expect(logs).toContain("you asked for /api/things");
    expect(logs).not.toContain("the-key");
    // The agent sent a credential of its own; what arrived is the principal's.
    expect(seen).toEqual(["Bearer the-key"]);
  }, 60_000);

  test("with network of its own an agent has none of the host's", async () => {
    using upstream = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("reached") });
    const ask = `${runtime} -e "fetch(\\"http://127.0.0.1:${upstream.port}/\\").then(() => console.log(\\"reached\\"), () => console.log(\\"no network\\"))"`;
    await running().json("agent", "create", "lonely", "--command", ask, "--restart-policy", "never");
    const logs = await eventually(async () => {
      const { stdout } = await running().run("agent", "logs", "lonely");
      return /reached|no network/.test(stdout) ? stdout : undefined;
    });
    expect(logs).toContain("no network");
  }, 60_000);
});

const runtime = "/run/bureau/programs/runtime/bun";
const fetchWithBun = `${runtime} -e "fetch(process.env.BUREAU_PROXY_URL + \\"/http/outside/things\\", { headers: { authorization: \\"Bearer mine\\" } }).then(async (r) => console.log(await r.text()))"`;
