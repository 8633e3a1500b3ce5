/** Builds of a simulated machine: good ones that differ in all or in some programs, and one for each way to fail. */
import type { Build } from "@bureau/os/build";

/** How a build fails, if it does. */
export type Flaw =
  | "none"
  /** The check refuses it. */
  | "unfit"
  | "daemon cannot be executed"
  | "daemon exits"
  | "daemon hangs"
  /** It does not reach the homeserver. */
  | "daemon is deaf"
  /** It believes that its machine was revoked. */
  | "daemon is refused"
  | "launcher cannot be executed"
  | "launcher exits"
  | "launcher hangs"
  /** It does not know the sandboxes that ran before it. */
  | "launcher forgets";

export type SimulatedBuild = Build & { readonly flaw: Flaw };

function make(name: string, flaw: Flaw, daemon: string, launcher: string): SimulatedBuild {
  return {
    path: `/builds/${name}`,
    id: name,
    version: name,
    runtime: "1",
    runtimeArguments: [],
    runtimeSha256: undefined,
    programs: { "bureau-daemon": daemon, "bureau-launcher": launcher, "bureau-proxy": "p" },
    state: { reads: [1], writes: 1 },
    takesOver: [],
    flaw,
  };
}

export const firstBuild = make("one", "none", "d1", "l1");
const flaws: readonly Flaw[] = [
  "unfit",
  "daemon cannot be executed",
  "daemon exits",
  "daemon hangs",
  "daemon is deaf",
  "daemon is refused",
  "launcher cannot be executed",
  "launcher exits",
  "launcher hangs",
  "launcher forgets",
];
export const goodBuilds: readonly SimulatedBuild[] = [
  firstBuild,
  make("two", "none", "d2", "l2"),
  make("launcher-only", "none", "d1", "l3"),
  make("copy-of-two", "none", "d2", "l2"),
  make("three", "none", "d3", "l3"),
];
/** Each flaw with another daemon, and those of a launcher also with the first one's. */
export const badBuilds: readonly SimulatedBuild[] = flaws.flatMap((flaw, index) => [
  make(`bad-${index}`, flaw, `bad-d${index}`, `bad-l${index}`),
  ...(flaw.startsWith("launcher") ? [make(`bad-launcher-${index}`, flaw, "d1", `bad-l${index}`)] : []),
]);

const builds = new Map([...goodBuilds, ...badBuilds].map((build) => [build.path, build]));

export function buildAt(path: string): SimulatedBuild {
  const build = builds.get(path);
  if (build === undefined) throw new Error(`there is no build at "${path}"`);
  return build;
}
