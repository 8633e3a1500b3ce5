/** Bureau's own programs on the host: a whole build that root owns, the boot link to it, and the commands for users. */
import { lstatSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { isBureauError } from "@bureau/kit/errors";
import { type Build, faultOf, wholeFaultOf } from "@bureau/os/build";
import { faultOfContent, type Judge } from "@bureau/os/build-paths";
import { systemHost } from "@bureau/os/layout";
import type { Action } from "../resources/registry.ts";
import { buildAt, installedPath, nixRootOf } from "../system/installed-build.ts";
import { look, targetOf } from "../system/look.ts";
import { byFix, type Check, type Finding, fail, hidden, pass, skip, systemOnly, warn } from "./check.ts";
import type { HostView } from "./host-view.ts";

const scope = systemOnly("a rootless instance runs the programs it was started with");
const current = systemHost.currentPrograms;

export const programChecks: readonly Check[] = [
  {
    id: "build",
    group: "programs",
    title: "Build that units run",
    expected: `${current} is a whole build, which the system user cannot change`,
    repair: byFix("copies the build that the doctor runs from, and links it"),
    scope,
    run: installedBuild,
  },
  {
    id: "commands",
    group: "programs",
    title: "Commands for users",
    expected: `${systemHost.binDir} has a link to every program`,
    repair: byFix("links them"),
    scope,
    run: commandLinks,
  },
];

/** The build behind `current`, if it is whole. */
export function currentBuild(): Build | undefined {
  try {
    const build = buildAt(current);
    return faultOf(build) === undefined ? build : undefined;
  } catch (error) {
    if (isBureauError(error)) return undefined;
    throw error;
  }
}

function installActions(host: HostView): Action[] {
  const build = buildAt(host.ownBuild);
  const root = nixRootOf(build);
  const link = (path: string, target: string, owner: string): Action => ({
    kind: "link",
    path,
    target,
    owner,
  });
  return [
    { kind: "build", from: build.path, id: build.id },
    ...(root === undefined ? [] : [link(root, build.path, "root")]),
    link(current, installedPath(build), systemHost.user),
    ...linkActions(build),
  ];
}

const linkActions = (build: Build): Action[] =>
  Object.keys(build.programs).map((name) => ({
    kind: "link",
    path: join(systemHost.binDir, name),
    target: join(installedPath(build), "bin", name),
    owner: "root",
  }));

async function installedBuild(host: HostView): Promise<Finding> {
  const actions = installActions(host);
  if (look(current).kind === "absent") return fail("not installed", { actions });
  if (isOutOfSight()) return hidden("only root may look: a folder above is closed to you");
  let build: Build;
  try {
    build = buildAt(current);
  } catch (error) {
    if (!isBureauError(error)) throw error;
    return fail(`${current} → ${targetOf(current) ?? "?"}: ${error.message}`, { actions });
  }
  const fault = await wholeFaultOf(build);
  if (fault !== undefined) return fail(`build ${build.id}: ${fault}`, { actions });
  const loose = looseOwner(build);
  if (loose !== undefined) return fail(loose, { actions });
  const own = buildAt(host.ownBuild);
  return build.id === own.id
    ? pass(`build ${build.id}, version ${build.version}`)
    : warn(
        `build ${build.id}, version ${build.version}; this doctor is build ${own.id}, version ${own.version}`,
        {
          hint: "run bureau machine upgrade, or the installed doctor",
        },
      );
}

const isOutOfSight = (): boolean => look(join(current, "build.json")).kind === "hidden";

/** Only root may change it: a user who changes what units run gets the machine's key. */
const looseOwner = ({ path }: Build): string | undefined =>
  judgeAsRoots(path, lstatSync(path)) ?? faultOfContent(path, judgeAsRoots);

const judgeAsRoots: Judge = (path, stat) => {
  if (stat.uid !== 0) return `${path} is not owned by root`;
  const isSticky = stat.isDirectory() && (stat.mode & 0o1000) !== 0;
  return stat.isSymbolicLink() || isSticky || (stat.mode & 0o022) === 0
    ? undefined
    : `other users than root may change ${path}`;
};

function commandLinks(host: HostView): Finding {
  if (isOutOfSight()) return hidden("only root may look: a folder above is closed to you");
  const build = currentBuild();
  // The check of the build reports what is wrong, and its repair links the commands too.
  if (build === undefined)
    return look(current).kind === "absent"
      ? fail("no commands", { actions: installActions(host) })
      : skip("no whole build to link to");
  if (looseOwner(build) !== undefined) return skip("other users than root may change the build");
  if (look(systemHost.binDir).kind === "absent")
    return fail("no such folder", { actions: linkActions(build) });
  const programs = Object.keys(build.programs);
  const wrong = programs.filter((name) => !leadsTo(join(systemHost.binDir, name), name));
  return wrong.length === 0
    ? pass(`${programs.length} programs`)
    : fail(`missing or leading elsewhere: ${wrong.join(", ")}`, {
        actions: linkActions(build).filter(
          (action) => action.kind === "link" && wrong.some((name) => action.path.endsWith(`/${name}`)),
        ),
      });
}

/** A link that root owns, to a program of that name in any build. */
function leadsTo(path: string, name: string): boolean {
  const seen = look(path);
  if (seen.kind !== "link" || seen.uid !== 0) return false;
  try {
    return realpathSync(path).endsWith(`/bin/${name}`);
  } catch {
    return false;
  }
}
