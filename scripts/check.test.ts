import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { importsOf } from "./check/imports-of.ts";
import { arrows } from "./check/layers.ts";
import { checkFiles, checkPackages, readTexts } from "./check/repository.ts";
import { packageOfModule } from "./check/source-graph.ts";
import { checkPrograms } from "./closures.ts";
import { checkArrows, checkDeclared } from "./dependency-arrows.ts";
import { checkHygiene } from "./hygiene.ts";
import { checkRuntimeArguments, checkRuntimeStarts } from "./runtime-starts.ts";

let root = "";
beforeEach(() => {
  root = mkdtempSync("/tmp/bc-");
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function put(files: Readonly<Record<string, string>>): string[] {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return Object.keys(files);
}

const check = (name: string, text: string, ...declared: string[]) =>
  checkArrows({ path: `packages/${name}/src/a/file.ts`, text, declared: new Set(declared) });

describe("dependency arrows", () => {
  test("a violating import in a package is found, and a test beside it may have it", () => {
    const imports = 'import { Session } from "@bureau/matrix/session";\nexport const s: Session = 1;\n';
    const files = put({
      "packages/launcher/package.json": JSON.stringify({ dependencies: { "@bureau/kit": "*" } }),
      "packages/launcher/src/start.ts": imports,
      "packages/launcher/src/start.test.ts": imports,
      "packages/launcher/src/fine.ts": 'import { log } from "@bureau/kit/log";\nlog();\n',
    });
    expect(checkPackages(readTexts(root, files))).toEqual([
      'packages/launcher/src/start.ts: imports "@bureau/matrix/session": launcher may import only os and kit and schema',
    ]);
  });

  test("imports of every form count, those of types too", () => {
    for (const text of [
      'import { a } from "@bureau/matrix/x"; a();',
      'import type { A } from "@bureau/matrix/x";',
      'import { type A, type B } from "@bureau/matrix/x";',
      'import type {\n  A,\n  B,\n} from "@bureau/matrix/x";',
      'export type { A } from "@bureau/matrix/x";',
      'export * from "@bureau/matrix/x";',
      'import "@bureau/matrix/x";',
      'const x = await import("@bureau/matrix/x");',
      'type X = import("@bureau/matrix/x").A;',
      "import * as x from '@bureau/matrix/x'; x.y();",
    ]) {
      expect(importsOf(text), text).toEqual(["@bureau/matrix/x"]);
      expect(check("proxy", text, "@bureau/matrix"), text).toHaveLength(1);
      expect(check("daemon", text, "@bureau/matrix"), text).toEqual([]);
    }
    expect(importsOf('// import { a } from "x"\n/* import { b } from "y" */ const c = 1;')).toEqual([]);
  });

  test("every pair of packages is allowed just as the table says", () => {
    const names = Object.keys(arrows);
    for (const from of names)
      for (const to of names.filter((name) => name !== from)) {
        const allowed = arrows[from] === "all" || arrows[from]?.includes(to);
        const dependency = `@bureau/${to.replace("services/", "service-")}`;
        const text = `import { x } from "${dependency}/y"; x();`;
        expect(check(from, text, dependency).length, `${from} → ${to}`).toBe(allowed ? 0 : 1);
        expect(checkDeclared(from, [dependency, "valibot"]).length).toBe(allowed ? 0 : 1);
      }
    expect(check("newcomer", "")[0]).toContain("has no place in the layers");
  });

  test("a service imports what services share, and no sibling", () => {
    const of = (to: string): number =>
      check("services/tickets", `import { x } from "@bureau/${to}/y"; x();`, `@bureau/${to}`).length;
    for (const to of ["service-kit", "control", "matrix", "kit", "schema"]) expect(of(to), to).toBe(0);
    for (const to of ["service-fleet", "cli", "daemon", "host"]) expect(of(to), to).toBe(1);
    expect(
      check("control", 'import { x } from "@bureau/service-kit/y"; x();', "@bureau/service-kit"),
    ).toHaveLength(1);
  });

  test("the launcher has no HTTP", () => {
    const http = 'import { request } from "node:http"; request();';
    expect(check("launcher", http)).toHaveLength(1);
    expect(check("launcher", 'await fetch("http://h");')).toHaveLength(1);
    expect(check("launcher", 'import { connect } from "node:net"; connect(); // fetch(url)\n')).toEqual([]);
    expect(check("proxy", `${http} await fetch("http://h");`)).toEqual([]);
  });

  test("the table has no circle", () => {
    const reach = (name: string): string[] => {
      const next = arrows[name];
      return next === "all" || next === undefined ? [] : next.flatMap((to) => [to, ...reach(to)]);
    };
    for (const name of Object.keys(arrows)) expect(reach(name)).not.toContain(name);
  });

  test("third parties and our own packages must be declared", () => {
    expect(check("os", 'import * as v from "valibot"; v.x();')[0]).toContain("does not declare it");
    expect(check("os", 'import * as v from "valibot"; v.x();', "valibot")).toEqual([]);
    expect(check("os", 'import { x } from "@scope/name/deep"; x();', "@scope/name")).toEqual([]);
    expect(check("os", 'import { x } from "@bureau/schema/refs"; x();')[0]).toContain("does not declare it");
    expect(check("os", 'import { x } from "node:fs"; x();')).toEqual([]);
    expect(check("os", 'import { x } from "fs"; x();')[0]).toContain("node:");
  });

  test("relative imports stay inside their package and carry .ts", () => {
    expect(check("os", 'import { x } from "../b.ts"; x();')).toEqual([]);
    expect(check("kit", 'import x from "../../../../package.json"; x();')).toEqual([]);
    for (const path of ["../../../schema/src/refs.ts", "../../package.json", "../b", "../b.js", "/etc/x.ts"])
      expect(check("kit", `import { x } from "${path}"; x();`), path).toHaveLength(1);
    expect(check("kit", 'import { x } from "@bureau/os/log"; x();', "@bureau/kit")).toHaveLength(1);
  });

  test("schema is safe in a browser", () => {
    for (const text of [
      'import { x } from "node:fs"; x();',
      'import type { x } from "node:net";',
      'import { x } from "bun:sqlite"; x();',
      'import { x } from "cborg"; x();',
      "export const a = process.env.HOME;",
      "export const a = Bun.version;",
      'export const a = Buffer.from("x");',
      "export const a = import.meta.dir;",
    ])
      expect(check("schema", text, "cborg"), text).toHaveLength(1);
    const fine = '/** Bun.serve and process.env */ export const a = "process.env Buffer.from"; a.process.x;';
    expect(check("schema", fine)).toEqual([]);
  });
});

describe("hygiene", () => {
  test("lets the command line print in one place only", () => {
    const line = "process.stdout.write(message);";
    expect(checkHygiene("packages/cli/src/agent/a.ts", line, "/srv/bureau")).toHaveLength(1);
    expect(checkHygiene("packages/cli/src/command/terminal.ts", line, "/srv/bureau")).toEqual([]);
    expect(checkHygiene("packages/cli/src/agent/a.ts", "terminal.print(message);", "/srv/bureau")).toEqual(
      [],
    );
  });

  test("the checkout's path, package hosts, and tests that hide others are found in files", () => {
    const host = ["https:", "", "registry.example.org"].join("/");
    const files = put({
      "docs/a.md": `see ${root}/docs\nand ${host}/x\n`,
      "src/a.test.ts": `${"test"}.only("a", f);\n${"describe"}.skip("b", f);\n`,
      "picture.png": `\0${root}`,
    });
    expect(checkFiles(root, readTexts(root, files)).map((violation) => violation.split(": ")[0])).toEqual([
      "docs/a.md:1",
      "docs/a.md:2",
      "src/a.test.ts:1",
      "src/a.test.ts:2",
    ]);
  });

  test("other paths, hosts, reasons and words are left alone", () => {
    const skip = `${"test"}.skip("x", f);`;
    for (const line of ["/srv/bureau2", "x/srv/bureau", "/srv/bureau.local", "https://example.org/files.zip"])
      expect(checkHygiene("a.ts", line, "/srv/bureau"), line).toEqual([]);
    expect(checkHygiene("a.test.ts", `// needs a TPM\n${skip}`, "/srv/bureau")).toEqual([]);
    expect(checkHygiene("a.test.ts", `${skip} // needs a TPM`, "/srv/bureau")).toEqual([]);
    expect(checkHygiene("a.test.ts", "list.only(1); test.skipIf(true)(f);", "/srv/bureau")).toEqual([]);
    for (const line of ['"/srv/bureau"', "file:///srv/bureau/x", "cd /srv/bureau"])
      expect(checkHygiene("a.ts", line, "/srv/bureau"), line).toHaveLength(1);
  });
});

describe("closures", () => {
  test("count what a program pulls in, and refuse the launcher what it must not hold", async () => {
    put({
      "packages/launcher/src/main.ts": 'import { a } from "../../kit/src/a.ts"; console.log(a);',
      "packages/kit/src/a.ts": 'import { b } from "../../matrix/src/b.ts"; export const a = b;',
      "packages/matrix/src/b.ts": "export const b = Math.random();",
    });
    const programs = {
      "bureau-launcher": "packages/launcher/src/main.ts",
      bureau: "packages/launcher/src/main.ts",
      "bureau-proxy": "packages/proxy/src/main.ts",
    };
    const { lines, violations } = await checkPrograms(root, programs);
    expect(violations).toEqual([
      "bureau-launcher: its closure holds packages/matrix, which it must never contain",
    ]);
    expect(lines[0]).toMatch(/3 modules: .*kit [\d.]+\/1/);
    expect(lines[2]).toContain("no packages/proxy/src/main.ts yet");
  });

  test.each(['await fetch("http://h")', 'require("node:http").get("http://h")', 'new WebSocket("ws://h")'])(
    "the launcher speaks no HTTP: %p is a violation",
    async (client) => {
      put({ "packages/launcher/src/main.ts": `console.log(${client});` });
      const programs = { "bureau-launcher": "packages/launcher/src/main.ts" };
      const { violations } = await checkPrograms(root, programs);
      expect(violations).toEqual([expect.stringContaining("bureau-launcher: its closure speaks HTTP")]);
    },
  );

  test("a program that does not bundle is a violation", async () => {
    put({ "packages/cli/src/main.ts": 'import { x } from "./missing.ts"; x();' });
    const { violations } = await checkPrograms(root, { bureau: "packages/cli/src/main.ts" });
    expect(violations[0]).toContain("cannot bundle");
  });

  test("a module belongs to the innermost package it lies in", () => {
    expect(packageOfModule("packages/kit/src/a.ts")).toBe("kit");
    expect(packageOfModule("node_modules/valibot/dist/index.mjs")).toBe("valibot");
    expect(packageOfModule("node_modules/a/node_modules/@b/c/d.js")).toBe("@b/c");
  });
});

describe("starts of the runtime", () => {
  const runtime = ["process", "execPath"].join(".");
  const at = (path: string, line: string): number => checkRuntimeStarts(path, line).length;

  test("finds a start without the arguments, in every form", () => {
    for (const line of [
      `Bun.spawn([${runtime}, join(dir, "main.ts")]);`,
      'spawnSync(bun, ["scripts/build.ts"], { cwd });',
      "run([runtimeOf(path), mainOf(path)]);".replace("mainOf(path)", 'join(path, "main.js")'),
      "ok(`$" + "{buildInside}/runtime/bun /srv/server.ts`);",
    ])
      expect(at("packages/x/src/x.ts", line), line).toBe(1);
    for (const line of [
      'exec "$current/runtime/bun" "$current/lib/bureau/main.js"',
      '"$bun" "$root/scripts/build.ts"',
    ])
      expect(at("bureau", line), line).toBe(1);
  });

  test("ignores a start with the arguments, and the runtime's plain path", () => {
    for (const line of [
      'Bun.spawn(runtimeCommand(join(dir, "main.ts")));',
      'spawnSync(bun, [...runtimeArguments, "scripts/build.ts"], { cwd });',
      `copyFileSync(${runtime}, target);`,
      'rmSync(join(path, "runtime/bun"));',
    ])
      expect(at("packages/x/src/x.ts", line), line).toBe(0);
    expect(at("bureau", 'exec "$current/runtime/bun" $isolated "$current/lib/bureau/main.js"')).toBe(0);
  });

  test("finds a checkout's command with other arguments", () => {
    expect(checkRuntimeArguments('isolated="--no-env-file"\n')).toHaveLength(1);
  });
});
