/**
 * The disk images of machines: Debian trixie as installed on a server, made by debootstrap once and kept in
 * a cache folder. Nothing of Bureau is in them.
 *
 * ```
 * <cache>/lab/images/<variant>-<digest of the recipe>/   a whole root file system, never written to again
 *             packages/                                  what debootstrap downloaded
 *             lock                                       held during a build
 * ```
 *
 * An image is built in a folder of its own and renamed when it is whole, within mount and pid namespaces that end with
 * the build: an interruption leaves nothing mounted and no partial image. The mirror comes from this host's
 * apt settings.
 */
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { waitForFileLock } from "@bureau/os/file-lock";
import { testCache } from "@bureau/testkit/test-cache";
import { execute, executeOk } from "./execute.ts";

/**
 * `plain`: a server that may become a machine. `nix`: the same with Nix as Debian packages it, its daemon running, no
 * substituters, nothing in the store. `bare`: a newcomer's host with Node, npm and git, without our other requirements.
 */
export type ImageVariant = "plain" | "nix" | "bare";

type ImageRecipe = {
  readonly suite: string;
  /** What debootstrap installs, with all it needs. */
  readonly packages: readonly string[];
  /** Packages that apt adds, because debootstrap does not resolve their dependencies. */
  readonly morePackages: readonly string[];
  /** Packages that are downloaded only, so that apt can install them later without a network. */
  readonly downloads?: readonly string[];
  /** Path → content; modes are in `modes`, 0644 otherwise. */
  readonly files: Readonly<Record<string, string>>;
  readonly modes: Readonly<Record<string, number>>;
  /** Run with `sh -ec` inside, when packages and files are there. */
  readonly setUp: string;
};

const packages = [
  "systemd",
  "systemd-sysv",
  "libpam-systemd",
  "dbus",
  "bubblewrap",
  "tmux",
  "openssh-server",
  "openssh-client",
  "sudo",
  "iproute2",
  "ca-certificates",
  "curl",
  "procps",
];

const setUp = `
useradd --create-home --uid 1000 --shell /bin/bash alice
useradd --create-home --uid 1001 --shell /bin/bash mallory
# Each machine gets its own, when its disk is made.
rm -f /etc/ssh/ssh_host_* /etc/hostname
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed
# Nothing begins by itself, and nothing is to be brought up to date at the first boot.
systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
touch /etc/.updated /var/.updated
# A journal that survives reboots, as on a maintained server.
mkdir -p /var/log/journal
# A container's console needs no login prompt.
systemctl mask console-getty.service getty.target
rm -f /etc/resolv.conf
rm -rf /var/log/bootstrap.log /debootstrap
# Backups of account files differ from run to run.
rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-
`;

const dropPackageLists = "rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/*_*\n";
const dropAccountBackups = "rm -f /etc/group- /etc/gshadow-\n";

const plain: ImageRecipe = {
  suite: "trixie",
  packages,
  morePackages: [],
  files: { "/etc/sudoers.d/alice": "alice ALL=(ALL:ALL) NOPASSWD: ALL\n" },
  modes: { "/etc/sudoers.d/alice": 0o440 },
  setUp: `${setUp}${dropPackageLists}usermod --append --groups sudo alice\n${dropAccountBackups}`,
};

const recipes: Readonly<Record<ImageVariant, ImageRecipe>> = {
  plain,
  nix: {
    ...plain,
    morePackages: ["nix-bin", "nix-setup-systemd"],
    // Debian's daemon accepts only members of the group.
    setUp: `${setUp}${dropPackageLists}usermod --append --groups sudo,nix-users alice\n${dropAccountBackups}`,
    files: {
      ...plain.files,
      // Builds run as the daemon's own user and without a sandbox, which needs what a container may not do; nothing is
      // fetched from anywhere.
      "/etc/nix/nix.conf":
        "build-users-group =\nsandbox = false\nsubstituters =\nexperimental-features = nix-command flakes\n",
    },
  },
  bare: {
    suite: "trixie",
    packages: ["systemd", "systemd-sysv", "libpam-systemd", "dbus", "ca-certificates", "iproute2"],
    morePackages: ["git", "nodejs", "npm"],
    downloads: [
      "bubblewrap",
      "tmux",
      "python3",
      "curl",
      "zstd",
      "openssh-client",
      "openssh-server",
      "keyutils",
      "seccomp",
    ],
    files: {},
    modes: {},
    setUp,
  },
};

/** Two minutes on a slow mirror. Without an answer debootstrap gives up sooner. */
const BUILD_MS_MAX = 15 * 60_000;
/** An image that was not used for this long is removed. */
const UNUSED_MS_MAX = 14 * 24 * 60 * 60_000;

const imageCache = (): string => testCache("lab");

/** The folder of the variant's root file system. Builds it, or waits for a build in progress. */
export async function ensureImage(
  variant: ImageVariant,
  say: (line: string) => void = () => {},
): Promise<string> {
  const recipe = recipes[variant];
  const digest = createHash("sha256").update(JSON.stringify(recipe)).digest("hex").slice(0, 12);
  const folder = join(imageCache(), "images", `${variant}-${digest}`);
  if (!existsSync(folder)) {
    mkdirSync(dirname(folder), { recursive: true });
    using lock = await waitForFileLock(join(imageCache(), "lock"), BUILD_MS_MAX, systemClock);
    if (lock === undefined)
      throw new BureauError(
        "timeout",
        `Another process has been building an image in ${imageCache()} for more than ${BUILD_MS_MAX} ms`,
      );
    if (!existsSync(folder)) {
      say(`Making the "${variant}" image of Debian ${recipe.suite} (once; about a minute) …`);
      removeOld(dirname(folder));
      await buildImage(recipe, folder);
    }
  }
  const now = new Date(systemClock.now());
  utimesSync(folder, now, now);
  return folder;
}

/** Removes leftovers of interrupted builds (we hold the lock, so no build runs) and unused images. */
function removeOld(images: string): void {
  for (const name of readdirSync(images)) {
    const path = join(images, name);
    const unusedMs = systemClock.now() - statSync(path).mtimeMs;
    if (!name.startsWith("building-") && unusedMs <= UNUSED_MS_MAX) continue;
    // A build with a killed owner may still write; a later run removes it.
    rmSync(path, { recursive: true, force: true, maxRetries: 3 });
  }
}

async function buildImage(recipe: ImageRecipe, folder: string): Promise<void> {
  const staging = join(dirname(folder), `building-${process.pid}`);
  const cache = join(imageCache(), "packages");
  mkdirSync(cache, { recursive: true });
  try {
    await bootstrap(recipe, staging, cache);
    if (recipe.morePackages.length > 0) await installMore(recipe, staging);
    for (const [path, content] of Object.entries(recipe.files)) {
      mkdirSync(dirname(join(staging, path)), { recursive: true });
      writeFileSync(join(staging, path), content);
      chmodSync(join(staging, path), recipe.modes[path] ?? 0o644);
    }
    await executeOk(contained(["chroot", staging, "sh", "-ec", recipe.setUp]), {
      env: { PATH: systemPath, LC_ALL: "C" },
    });
    renameSync(staging, folder);
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** In its own namespaces, so that its mounts and processes end with it. */
const contained = (command: readonly string[]): string[] => [
  "unshare",
  "--mount",
  "--pid",
  "--fork",
  "--kill-child",
  "--mount-proc",
  ...command,
];

/** Tries the mirror this host's apt uses, then the one debootstrap knows by itself. */
async function bootstrap(recipe: ImageRecipe, staging: string, cache: string): Promise<void> {
  const complaints: string[] = [];
  for (const mirror of [...(await hostMirrors()), undefined]) {
    rmSync(staging, { recursive: true, force: true });
    const command = [
      "debootstrap",
      "--variant=minbase",
      `--cache-dir=${cache}`,
      `--include=${recipe.packages.join(",")}`,
      recipe.suite,
      staging,
      ...(mirror === undefined ? [] : [mirror]),
    ];
    const env = { ...process.env, PATH: systemPath, LC_ALL: "C", ...(await hostProxies()) };
    const made = await execute(contained(command), { timeoutMs: BUILD_MS_MAX, env: definedOf(env) });
    if (made.code === 0) return;
    complaints.push(
      `from ${mirror ?? "debootstrap's own mirror"}: ${made.stdout.slice(-1_500)}${made.stderr}`,
    );
  }
  throw new BureauError(
    "failed",
    `Cannot make an image of Debian ${recipe.suite}: ${complaints.join("\n")}`,
    {
      hint: "the lab downloads Debian packages from the mirror that apt is set to; try: apt-get update",
    },
  );
}

/**
 * Installs and downloads with the image's own apt, which for that long has this host's settings, and the resolver that debootstrap
 * copied from it.
 */
async function installMore({ morePackages, downloads = [] }: ImageRecipe, staging: string): Promise<void> {
  const settings = (await executeOk(["apt-config", "dump", "Acquire"]))
    .split("\n")
    .filter((line) => /^Acquire::(?!IndexTargets)/u.test(line));
  const settingsFile = join(staging, "apt-settings");
  writeFileSync(settingsFile, settings.join("\n"));
  // Recommended packages are installed later, unless the command says otherwise.
  const later = downloads.length === 0 ? "" : `\napt-get install -y --download-only ${downloads.join(" ")}`;
  const apt = `apt-get update\napt-get install -y --no-install-recommends ${morePackages.join(" ")}${later}`;
  await executeOk(contained(["chroot", staging, "sh", "-euc", apt]), {
    timeoutMs: BUILD_MS_MAX,
    env: {
      ...definedOf(process.env),
      PATH: systemPath,
      LC_ALL: "C",
      DEBIAN_FRONTEND: "noninteractive",
      APT_CONFIG: "/apt-settings",
    },
  });
  rmSync(settingsFile);
}

/** Debian mirrors among this host's apt sources, as debootstrap takes them. */
async function hostMirrors(): Promise<string[]> {
  const targets = await executeOk(["apt-get", "indextargets", "--format", "$(REPO_URI)"]);
  const isDebian = (uri: string): boolean => /^https?:\/\/.*\/debian\/?$/u.test(uri);
  return [...new Set(targets.split("\n").filter(isDebian))];
}

/** The proxies apt uses, as the environment that debootstrap's wget reads. */
async function hostProxies(): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const scheme of ["http", "https"]) {
    const asked = await execute(["apt-config", "shell", "proxy", `Acquire::${scheme}::Proxy`]);
    const proxy = /^proxy='(.*)'$/mu.exec(asked.stdout)?.[1];
    if (proxy !== undefined && proxy !== "" && proxy !== "DIRECT") found[`${scheme}_proxy`] = proxy;
  }
  return found;
}

const definedOf = (env: Readonly<Record<string, string | undefined>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
