/**
 * Sends a build with Nix, when both hosts have it: the build becomes a content-addressed store path, and `nix copy` sends
 * the missing parts. A content-addressed path needs no signature, so no key has to be trusted.
 */
import { realpathSync } from "node:fs";
import { BureauError } from "@bureau/kit/errors";
import { isInStore, isStorePath, nixStore } from "@bureau/kit/nix-store-path";
import { readBuild } from "@bureau/os/build";
import { type HostShell, runOrThrow } from "../remote/host-shell.ts";
import type { SshShell } from "../remote/ssh.ts";
import { formatTarget, type SshTarget } from "../remote/target.ts";
import type { HostFacts } from "./host-check.ts";
import type { Root } from "./privilege.ts";

const COPY_MS_MAX = 3_600_000;
const INSTALL_MS_MAX = 900_000;

/** Without them apt counts lists that it could not fetch as a success, and then waits without end for packages. */
const aptLimits = [
  "APT::Update::Error-Mode=any",
  "Acquire::Retries=1",
  "Acquire::http::Timeout=15",
  "Acquire::https::Timeout=15",
].flatMap((option) => ["-o", option]);

/** The commands that install Nix, for each package manager. */
const installers: Readonly<Record<string, readonly (readonly string[])[]>> = {
  "apt-get": [
    ["apt-get", ...aptLimits, "update"],
    ["apt-get", ...aptLimits, "install", "-y", "--no-install-recommends", "nix-bin", "nix-setup-systemd"],
  ],
  dnf: [["dnf", "install", "-y", "nix"]],
  zypper: [["zypper", "--non-interactive", "install", "nix"]],
  pacman: [["pacman", "-Sy", "--noconfirm", "nix"]],
};

/** The commands that {@link installNix} would run; empty without a known package manager. */
export const nixInstaller = (facts: Pick<HostFacts, "PACKAGES">): readonly (readonly string[])[] =>
  installers[facts.PACKAGES] ?? [];

/** Installs Nix with the host's own package manager. @throws BureauError with how to deploy without Nix */
export async function installNix(
  host: HostShell,
  root: Root,
  facts: Pick<HostFacts, "PACKAGES">,
  onLine: (line: string) => void,
): Promise<void> {
  const commands = nixInstaller(facts);
  const hint =
    "deploy without --install-nix: the programs then come as an archive; or install Nix there yourself first";
  if (commands.length === 0)
    throw new BureauError(
      "unsupported",
      `Cannot install Nix on ${host.name}: its package manager is unknown`,
      {
        hint,
      },
    );
  const asRoot: HostShell = {
    name: host.name,
    run: (argv, how) => root.run(["env", "DEBIAN_FRONTEND=noninteractive", ...argv], { ...how, stdin: "" }),
    [Symbol.asyncDispose]: async () => {},
  };
  for (const command of commands)
    await runOrThrow(asRoot, "install Nix", command, { timeoutMs: INSTALL_MS_MAX, onLine, hint });
}

/** Whether `nix copy` can be tried at all: a program here, and options that its way to ssh can carry. */
export const canCopy = (shell: SshShell, target: SshTarget): boolean =>
  Bun.which("nix") !== null &&
  !target.host.includes("%") &&
  // Nix splits the options at white space, and ignores quotes.
  !shell.connectionOptions.some((option) => /\s/u.test(option));

/** The build's path in this machine's store; adds it when it is missing. */
export async function storePathOf(build: string, here: HostShell): Promise<string> {
  const real = realpathSync(build);
  if (isInStore(real)) return real;
  const argv = [...nixCommand, "store", "add-path", "--name", `bureau-${readBuild(build).id}`, real];
  const added = await runOrThrow(here, "add the build to the Nix store", argv, { timeoutMs: COPY_MS_MAX });
  const path = added.trim();
  if (!isStorePath(path))
    throw new BureauError("failed", `Nix added the build as "${path}", which is not in ${nixStore}/`);
  return path;
}

/** Copies a store path and all that it refers to. It has the same path on the host. */
export async function copyClosure(options: {
  readonly path: string;
  readonly target: SshTarget;
  readonly shell: SshShell;
  readonly here: HostShell;
  readonly facts: Pick<HostFacts, "NIX" | "PRIVILEGE">;
  readonly onLine: (line: string) => void;
}): Promise<void> {
  const { target, shell, facts } = options;
  const sshOptions = [
    ...shell.connectionOptions.flatMap((option) => ["-o", option]),
    ...(target.port === undefined ? [] : ["-p", String(target.port)]),
  ];
  const { port: _, ...withoutPort } = target;
  const store = `${formatTarget(withoutPort)}?remote-program=${facts.NIX}`;
  // Root may import unsigned paths; other users only content-addressed ones.
  const unsigned = facts.PRIVILEGE === "root" ? ["--no-check-sigs"] : [];
  await runOrThrow(
    options.here,
    `copy "${options.path}" to ${shell.name}`,
    [
      "env",
      `NIX_SSHOPTS=${sshOptions.join(" ")}`,
      ...nixCommand,
      "copy",
      ...unsigned,
      "--to",
      store,
      options.path,
    ],
    {
      timeoutMs: COPY_MS_MAX,
      onLine: options.onLine,
      hint: "deploy with --no-nix: the programs then come as an archive",
    },
  );
}

const nixCommand = ["nix", "--extra-experimental-features", "nix-command"];
