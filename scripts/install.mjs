// Installs what `npm start` and `npm test` need: npm packages, bubblewrap and tmux.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { findBun, root } from "./find-bun.mjs";

const say = (text) => process.stderr.write(`${text}\n`);

/**
 * Installs npm packages when they are missing or older than the lock file. Without `development`, leaves out those that
 * only tests and checks need. Returns Bun's path.
 */
export function installPackages({ development = true } = {}) {
  if (!isInstalled(development)) {
    const omit = development ? [] : ["--omit=dev"];
    say(`Installing npm packages (${["npm ci", ...omit].join(" ")}) …`);
    const done = spawnSync("npm", ["ci", ...omit, "--no-audit", "--no-fund"], {
      cwd: root,
      stdio: ["ignore", 2, 2],
    });
    if (done.status !== 0)
      stop("npm ci failed", "check the network and the registry npm is set to, then run it again");
  }
  const bun = findBun();
  if (bun === undefined)
    stop(
      `no Bun for this platform (${process.platform} ${process.arch}) came with npm ci`,
      "Bureau runs on Linux, x64 or arm64, and needs npm's optional dependencies (npm ci without --omit=optional)",
    );
  return bun;
}

function isInstalled(development) {
  const stamp = join(root, "node_modules", ".package-lock.json");
  if (!existsSync(stamp) || findBun() === undefined) return false;
  const { devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const wanted = development ? Object.keys(devDependencies) : [];
  if (!wanted.every((name) => existsSync(join(root, "node_modules", name)))) return false;
  return statSync(stamp).mtimeMs >= statSync(join(root, "package-lock.json")).mtimeMs;
}

const onPath = (name) =>
  (name.startsWith("/") && existsSync(name)) ||
  (process.env.PATH ?? "").split(":").some((dir) => dir !== "" && existsSync(join(dir, name)));

/** Further programs of the host that the lab needs, for `installTools`. */
export const labTools = [
  ["systemd-nspawn", "systemd-container"],
  ["debootstrap", "debootstrap"],
  ["/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"],
  ["ip", "iproute2"],
  ["nsenter", "util-linux"],
];

/** Packages for a virtual machine with another kernel. */
export const kernelTools = [
  ["qemu-system-x86_64", "qemu-system-x86"],
  ["cpio", "cpio"],
];

/**
 * Installs bubblewrap and tmux if apt is available without a password; else prints the exact command and stops. `extra`
 * names further programs, or their absolute paths, each with its package.
 */
export function installTools(extra = []) {
  const wanted = [["bwrap", "bubblewrap"], ["tmux", "tmux"], ...extra];
  const missing = wanted.filter(([program]) => !onPath(program)).map(([, name]) => name);
  if (missing.length === 0) return;
  const list = missing.join(" ");
  if (!onPath("apt-get"))
    stop(`${list} not found`, `install ${list} with your system's package manager, then run this again`);
  const asRoot = process.getuid() === 0 ? [] : ["sudo", "-n"];
  const command = `${process.getuid() === 0 ? "" : "sudo "}apt-get install -y ${list}`;
  if (asRoot.length > 0 && spawnSync("sudo", ["-n", "true"], { stdio: "ignore" }).status !== 0)
    stop(`${list} not found, and installing needs root`, `run: ${command}`);
  say(`Installing ${list} (${command}) …`);
  const apt = (...args) => {
    const [program, ...rest] = [...asRoot, "apt-get", ...args];
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    return spawnSync(program, rest, { stdio: ["ignore", 2, 2], env }).status === 0;
  };
  if (!apt("install", "-y", "--no-install-recommends", ...missing)) {
    if (!apt("update") || !apt("install", "-y", "--no-install-recommends", ...missing))
      stop(`installing ${list} failed`, `run: ${command}`);
  }
}

/**
 * Installs programs without which some tests are skipped. Only where the installation starts no service: as root, on a
 * host without systemd, which is a container. Elsewhere it prints the command.
 */
export function installOptional(wanted) {
  const missing = wanted.filter(([program]) => !onPath(program)).map(([, name]) => name);
  if (missing.length === 0) return;
  const list = missing.join(" ");
  const isRoot = process.getuid() === 0;
  const skip = () =>
    say(
      `Tests that need ${list} are skipped. To run them: ${isRoot ? "" : "sudo "}apt-get install -y ${list}`,
    );
  if (!isRoot || existsSync("/run/systemd/system") || !onPath("apt-get")) return skip();
  say(`Installing ${list} for tests …`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" };
  const apt = (...args) => spawnSync("apt-get", args, { stdio: ["ignore", 2, 2], env }).status === 0;
  const install = () => apt("install", "-y", "--no-install-recommends", ...missing);
  if (!install() && !(apt("update") && install())) skip();
}

/** Prints the problem and its remedy, and exits. */
export function stop(problem, remedy) {
  say(`\nCannot continue: ${problem}.\n  → ${remedy}`);
  process.exit(1);
}

/** The scripts are all that Node runs. */
export function checkNode() {
  const { engines } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const least = Number(/\d+/.exec(engines.node)[0]);
  if (Number(process.versions.node.split(".")[0]) < least)
    stop(`Node ${process.versions.node} is too old`, `install Node ${least} or newer`);
  if (process.platform !== "linux")
    stop(`${process.platform} is not Linux`, "Bureau runs on Linux machines only");
}
