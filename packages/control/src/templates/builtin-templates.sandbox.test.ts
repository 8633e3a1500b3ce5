/** The built-in templates under a launcher that mounts only the mounts of a template, as the reference's does. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { runToEnd } from "@bureau/os/run-to-end";
import type { Mount } from "@bureau/schema/template";
import { resolveTemplate } from "@bureau/schema/template-resolution";
import { builtinTemplates } from "./builtin-templates.ts";

const templates = builtinTemplates("bureau/template");
const lookup = (reference: string) => {
  const template = templates[reference.slice(reference.lastIndexOf(":") + 1)];
  return template === undefined ? { problem: `no ${reference}` } : { template };
};

/** bubblewrap's arguments for a mount; a missing source fails the start, unless the mount is optional. */
function mounted({ source, dest, type, mode, optional }: Mount): string[] {
  if (type === "tmpfs") return ["--tmpfs", dest];
  const real = source?.replace("${WORKSPACE_ROOT}", "/nonexistent").replace("${PRINCIPAL_NAME}", "agent/a");
  if (real === undefined || (optional === true && !existsSync(real))) return [];
  return [mode === "rw" ? "--bind" : "--ro-bind", real, dest];
}

test.each(Object.keys(templates))("%s has its tools and a writable home", async (name) => {
  const resolved = resolveTemplate(`bureau/template:${name}`, lookup);
  if (!resolved.ok) throw new Error(resolved.problem);
  const { template } = resolved;
  const home = template.environment_variables?.["HOME"] ?? "";
  const outcome = await runToEnd(
    [
      ...["bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--clearenv"],
      ...(template.namespaces?.net === false ? [] : ["--unshare-net"]),
      ...(template.filesystem ?? []).flatMap(mounted),
      ...(template.create_dirs ?? []).flatMap((path) => ["--dir", path]),
      ...["--setenv", "HOME", home, "--"],
      ...["/bin/sh", "-c", 'cd "$HOME" && touch kept && ls'],
    ],
    { what: "bubblewrap", timeoutMs: 20_000, stdoutBytesMax: 1 << 16 },
  );
  expect(outcome).toMatchObject({ code: 0, stdout: "kept\n" });
});
