/** The published Python client (clients/python), with the system's python3: a service and its caller, in two sandboxes. */
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { eventTypes } from "@bureau/schema/events";
import { aliasOf, parseNamespace, rooms, serverOf } from "@bureau/schema/refs";
import { eventually, useBureau } from "@bureau/testkit/use-bureau";

const python = "/usr/bin/python3";
const client = resolve(import.meta.dir, "../../../../clients/python/bureau_service");

async function runs(...command: string[]): Promise<string | undefined> {
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "pipe", cwd: "/" });
  const [out, problem, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return code === 0 ? undefined : `${out}${problem}`;
}

/** A folder that sandboxes see as /workspace, with Python's packages in it; undefined, with the reason, when there is none. */
async function install(folder: string): Promise<string | undefined> {
  mkdirSync(folder, { recursive: true });
  if (!existsSync(python)) return `there is no ${python}`;
  const venv = join(folder, "venv");
  // From a copy: a build writes into its source.
  const copy = join(folder, "source");
  return (
    (await runs(python, "-m", "venv", venv)) ??
    (await runs("cp", "-r", client, copy)) ??
    (await runs(join(venv, "bin/pip"), "install", "--quiet", copy))
  );
}

const running = useBureau();
const template = async (name: string, content: object): Promise<void> => {
  const session = running().session();
  const alias = aliasOf(rooms.template(parseNamespace("bureau")), serverOf(session.userId));
  const room = await session.resolveAlias(alias);
  if (room === undefined) throw new Error(`no room ${alias}`);
  await session.putState(room, eventTypes.template, name, { ...content });
};
const logsOf = async (name: string): Promise<string> => (await running().run("agent", "logs", name)).stdout;
const output = (name: string, text: string): Promise<string> =>
  eventually(
    async () => {
      const out = await logsOf(name);
      return out.includes(text) ? out : undefined;
    },
    { describe: async () => `${await logsOf(name)}\n${await logsOf("service/greeter")}` },
  );

const service = `
from bureau_service import Caller, Service

service = Service("sample", description="Greets its callers")

@service.action("greet", needs="sample/greet")
def greet(caller: Caller, name: str) -> dict[str, str]:
    return {"text": f"Hello, {name}", "caller": caller.user}

@service.action("erase", needs="sample/erase")
def erase(caller: Caller) -> None:
    raise AssertionError("it must not run")

service.run()
`;
const caller = `
import time
from bureau_service import ServiceError, call

print(call("sample", "greet", name="Ada")["text"])
try:
    call("sample", "erase")
except ServiceError as error:
    print("refused:", error.code, error, flush=True)
time.sleep(1000)
`;

test("a service and a caller in Python: what is granted works, what is not is refused", async () => {
  const home = (name: string): string => join(running().layout.workspaceRoot, "home", name);
  const missing = await install(home("service/greeter"));
  if (missing !== undefined) {
    if (process.env["CI"] !== undefined) throw new Error(missing);
    console.warn(`SKIPPED: Python's packages cannot be installed: ${missing}`);
    return;
  }
  const tests = ["-m", "unittest", "discover", "-s", join(home("service/greeter"), "source/tests")];
  expect(await runs(join(home("service/greeter"), "venv/bin/python"), ...tests)).toBeUndefined();
  mkdirSync(home("agent/py"), { recursive: true });
  expect(await runs("cp", "-r", join(home("service/greeter"), "venv"), home("agent/py"))).toBeUndefined();
  writeFileSync(join(home("service/greeter"), "main.py"), service);
  writeFileSync(join(home("agent/py"), "main.py"), caller);
  const command = ["/workspace/venv/bin/python", "/workspace/main.py"];
  await template("greeter-py", { inherits: ["bureau/template:service"], command });
  await template("caller-py", {
    inherits: ["bureau/template:agent"],
    required_services: ["sample"],
    authorization: { grants: [{ actions: ["sample/greet"] }] },
    command,
  });
  await running().json("service", "bind", "sample", "service/greeter");
  await running().json("agent", "create", "service/greeter", "--template", "bureau/template:greeter-py");
  await running().json("agent", "create", "py", "--template", "bureau/template:caller-py");
  const said = await output("agent/py", "refused:");
  expect(said).toContain("Hello, Ada");
  expect(said).toContain("refused: forbidden access denied: no grant for sample/erase");
}, 180_000);
