import { describe, expect, test } from "bun:test";
import { parseFleet, parseMachine, parsePrincipalName, parseServerName } from "@bureau/schema/refs";
import { sandboxEnvironment } from "./sandbox-environment.ts";
import { quote } from "./script.ts";
import { expandVariables, templateVariables } from "./variables.ts";

const agent = parsePrincipalName("agent/x");
const variables = templateVariables(
  {
    layout: { runDir: "/r", stateDir: "/s", workspaceRoot: "/w", cacheRoot: "/c" },
    machine: parseMachine("b/fleet/f/machine/m"),
    serverName: parseServerName("srv"),
    fleet: parseFleet("b/fleet/f"),
  },
  agent,
  { PROJECT: "iree", WORKTREE_PATH: "feature/a", other: "no" },
);

describe("template variables", () => {
  test("expand to the host's and the payload's values", () => {
    expect(
      expandVariables(
        "${WORKSPACE_ROOT}/${PROJECT}/${WORKTREE_PATH} ${PRINCIPAL_NAME}@${FLEET}",
        variables,
        "x",
      ),
    ).toBe("/w/iree/feature/a agent/x@b/fleet/f");
  });
  test("fail when they are not set, with the field and the variable", () => {
    expect(() => expandVariables("${HOME}/x", variables, 'the mount on "/y"')).toThrow(
      'Unknown variable "${HOME}" in the mount on "/y"',
    );
    expect(() => expandVariables("${other}", variables, "x")).toThrow("Unknown variable");
    expect(() => expandVariables("${constructor}", variables, "x")).toThrow("Unknown variable");
  });
  test("can be written literally, and a bare dollar stays", () => {
    expect(expandVariables("$${HOME} $HOME $$", variables, "x")).toBe("${HOME} $HOME $$");
  });
});

describe("the environment inside", () => {
  test("holds Bureau's names, which no template and no secret can change", () => {
    const environment = sandboxEnvironment(
      { command: [], environment_variables: { BUREAU_PRINCIPAL_NAME: "agent/other", X: "${PROJECT}" } },
      agent,
      variables,
      { BUREAU_FLEET: "evil", TOKEN: "t" },
    );
    expect(environment).toMatchObject({
      BUREAU_SANDBOX: "1",
      BUREAU_PROXY_SOCKET: "/run/bureau/proxy.sock",
      BUREAU_PRINCIPAL_NAME: "agent/x",
      BUREAU_MACHINE_NAME: "b/fleet/f/machine/m",
      BUREAU_SERVER_NAME: "srv",
      BUREAU_FLEET: "b/fleet/f",
      X: "iree",
      TOKEN: "t",
      HOME: "/workspace",
    });
    expect(environment).not.toHaveProperty("BUREAU_SERVICE_SOCKET");
  });
  test("names the socket that a service listens on", () => {
    const service = parsePrincipalName("service/tickets");
    expect(sandboxEnvironment({ command: [] }, service, variables, {})).toHaveProperty(
      "BUREAU_SERVICE_SOCKET",
      "/run/bureau/listen/service.sock",
    );
  });
  test("has prepended entries first, then the environment's bin, and Bureau's programs last", () => {
    const environment = sandboxEnvironment(
      {
        command: [],
        environment_path: "/nix/store/e",
        environment_variables: { LIB: "/b" },
        prepend_variables: { PATH: ["/p", "/q"], LIB: ["/a"], NEW: ["/n"] },
      },
      agent,
      variables,
      {},
    );
    expect(environment["PATH"]).toBe(
      "/p:/q:/nix/store/e/bin:/usr/local/bin:/usr/bin:/bin:/run/bureau/programs/bin",
    );
    expect(environment).toMatchObject({ LIB: "/a:/b", NEW: "/n" });
  });
  test("refuses invalid names", () => {
    expect(() =>
      sandboxEnvironment({ command: [], environment_variables: { "A=B": "x" } }, agent, variables, {}),
    ).toThrow("A=B");
  });
});

test("words of any content are quoted for sh", async () => {
  const words = ["plain", "it's", "$(id)", "a\nb", '"', "\\", "$&", "*"];
  const child = Bun.spawn(["/bin/sh", "-c", `printf '%s\\0' ${words.map(quote).join(" ")}`], {
    stdout: "pipe",
  });
  expect((await new Response(child.stdout).text()).split("\0").slice(0, -1)).toEqual(words);
});
