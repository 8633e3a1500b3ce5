/**
 * Reads the facts about a host before anything on it is changed: one POSIX shell script, sent over standard input, since
 * Bureau is not installed there yet. It prints `KEY=VALUE` lines after a marker, because a login may print text first.
 */
import { BureauError } from "@bureau/kit/errors";
import { systemHost } from "@bureau/os/layout";
import { parse } from "@bureau/schema/parse";
import * as v from "valibot";
import { type HostShell, quote } from "../remote/host-shell.ts";

const BEGIN = "bureau-host-check";
const END = "bureau-host-check-done";
const CHECK_MS_MAX = 60_000;
/** Limit of one request from the host to the homeserver, in seconds. */
const HOMESERVER_SECONDS_MAX = 8;

/**
 * `$1` homeserver URL, `$2` its host, `$3` its port. All in one function, so that the shell has read it to its end
 * before any program it starts could read from the same standard input.
 */
const script = `
say() { printf '%s=%s\\n' "$1" "$(printf '%s' "$2" | tr -d '\\r' | head -n 1)"; }
has() { command -v "$1" >/dev/null 2>&1; }
free_kb() { df -Pk "$1" 2>/dev/null | tail -n 1 | awk '{print $4}'; }
# Empty where the file system has no limit, or df cannot tell.
free_inodes() { df -Pi "$1" 2>/dev/null | tail -n 1 | awk '$2 + 0 > 0 && $4 ~ /^[0-9]+$/ {print $4}'; }
libc() {
  getconf GNU_LIBC_VERSION 2>/dev/null && return
  case $(ldd --version 2>&1) in *musl*) echo musl ;; *) echo unknown ;; esac
}
privilege() {
  if [ "$(id -u)" = 0 ]; then echo root
  elif ! has sudo; then echo none
  elif sudo -n -k true 2>/dev/null; then echo sudo
  else echo sudo-password
  fi
}
# Only root can change these folders; the link itself belongs to the system user.
installed() {
  real=$(readlink -f ${systemHost.currentPrograms} 2>/dev/null)
  case $real in
    ${systemHost.buildsDir}/* | /nix/store/*) "$real/bin/bureau" version >/dev/null 2>&1 && echo "$real" ;;
  esac
}
staging() {
  for base in /var/tmp "$HOME"; do
    # A folder that holds such a file of another user is not used.
    taken=$(find "$base" -maxdepth 1 -name "bureau-deploy-$(id -u)-*" ! -user "$(id -u)" 2>/dev/null)
    [ -z "$taken" ] || continue
    trial=$(mktemp "$base/.bureau-trial-XXXXXX" 2>/dev/null) || continue
    printf '#!/bin/sh\\nexit 0\\n' >"$trial"
    chmod 700 "$trial"
    "$trial" 2>/dev/null && { rm -f "$trial"; echo "$base"; return; }
    rm -f "$trial"
  done
}
# Sets homeserver to ok, unreachable or unknown, and error to the program's message.
check_homeserver() {
  homeserver=ok error=
  if has curl; then
    error=$(curl -fsS --max-time ${HOMESERVER_SECONDS_MAX} -o /dev/null "$1/_matrix/client/versions" 2>&1) || homeserver=unreachable
  elif has wget; then
    error=$(wget -q -T ${HOMESERVER_SECONDS_MAX} -t 1 -O /dev/null "$1/_matrix/client/versions" 2>&1) || homeserver=unreachable error="wget: $error"
  elif has bash && has timeout; then
    error=$(timeout ${HOMESERVER_SECONDS_MAX} bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$2" "$3" 2>&1) || homeserver=unreachable error=\${error:-no answer}
  else homeserver=unknown
  fi
}
check() {
  export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:/nix/var/nix/profiles/default/bin"
  echo ${BEGIN}
  say KERNEL "$(uname -s)"
  say ARCH "$(uname -m)"
  say HOSTNAME "$(uname -n)"
  say USER "$(id -un)"
  say UID "$(id -u)"
  say LIBC "$(libc)"
  say SYSTEMD "$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \\([0-9]*\\).*/\\1/p')"
  say SYSTEMD_RUNS "$([ -d /run/systemd/system ] && echo yes)"
  say PRIVILEGE "$(privilege)"
  say STAGING "$(staging)"
  say VAR_FREE_KB "$(free_kb /var)"
  say VAR_FREE_INODES "$(free_inodes /var)"
  for program in tar gzip zstd sha256sum; do has "$program" && say HAS "$program"; done
  for program in apt-get dnf zypper pacman; do has "$program" && { say PACKAGES "$program"; break; }; done
  say NIX "$(command -v nix-store)"
  say INSTALLED "$(installed)"
  say BUILD "$(sha256sum "$(installed)/build.json" 2>/dev/null | cut -c 1-64)"
  [ -r ${systemHost.machineConf} ] && sed -n 's/^\\(BUREAU_[A-Z_]*=.*\\)/CONF=\\1/p' ${systemHost.machineConf}
  check_homeserver "$@"
  say HOMESERVER "$homeserver"
  say HOMESERVER_ERROR "$error"
  echo ${END}
}
check "$@" </dev/null
`;

const number = v.pipe(v.string(), v.regex(/^[0-9]+$/u), v.transform(Number));
const orNothing = <const Schema extends v.GenericSchema<string, unknown>>(schema: Schema) =>
  v.union([
    v.pipe(
      v.literal(""),
      v.transform(() => undefined),
    ),
    schema,
  ]);

const FactsSchema = v.object({
  KERNEL: v.string(),
  /** As `uname -m` says. */
  ARCH: v.string(),
  HOSTNAME: v.string(),
  USER: v.string(),
  UID: number,
  LIBC: v.string(),
  SYSTEMD: orNothing(number),
  SYSTEMD_RUNS: v.picklist(["yes", ""]),
  PRIVILEGE: v.picklist(["root", "sudo", "sudo-password", "none"]),
  /** A folder where a program may be put and run; empty when there is none. */
  STAGING: v.string(),
  VAR_FREE_KB: orNothing(number),
  /** Files that can still be made there; nothing where they are not limited. */
  VAR_FREE_INODES: orNothing(number),
  NIX: v.string(),
  /** The build that is installed, if it runs, and the SHA-256 of its manifest; empty when there is none. */
  INSTALLED: v.string(),
  BUILD: v.string(),
  /** `unknown` when the host has no program to ask with. */
  HOMESERVER: v.picklist(["ok", "unreachable", "unknown"]),
  /** The message of that program; empty when it had none. */
  HOMESERVER_ERROR: v.string(),
  PACKAGES: v.optional(v.string(), ""),
});

/** What the check found. */
export type HostFacts = v.InferOutput<typeof FactsSchema> & {
  readonly has: readonly string[];
  /** machine.conf of an installation that is there; empty when there is none. */
  readonly conf: ReadonlyMap<string, string>;
};

/** Changes nothing on the host. @throws BureauError when the host cannot run the script */
export async function checkHost(host: HostShell, homeserver: string): Promise<HostFacts> {
  const url = new URL(homeserver);
  const port = url.port || (url.protocol === "https:" ? "443" : "80");
  const argv = ["sh", "-s", "--", homeserver, url.hostname.replace(/^\[|\]$/gu, ""), port];
  const ran = await host.run(argv, { stdin: script, timeoutMs: CHECK_MS_MAX });
  if (!ran.stdout.includes(END))
    throw new BureauError(
      "failed",
      `Cannot check ${host.name}: the check ended early, with exit code ${ran.code}${quote(ran)}`,
      { hint: "it needs a POSIX shell and the usual small programs (coreutils, sed, awk)" },
    );
  return parseHostCheck(ran.stdout, host.name);
}

/** Pure half of {@link checkHost}. @throws InputError when a line is missing or wrong */
export function parseHostCheck(output: string, name: string): HostFacts {
  const values: Record<string, string> = {};
  const has: string[] = [];
  const conf = new Map<string, string>();
  for (const line of output.slice(output.lastIndexOf(`${BEGIN}\n`)).split("\n")) {
    const [, key = "", value = ""] = /^([A-Z_]+)=(.*)$/u.exec(line) ?? [];
    if (key === "HAS") has.push(value);
    else if (key === "CONF")
      conf.set(value.slice(0, value.indexOf("=")), value.slice(value.indexOf("=") + 1));
    else if (key !== "") values[key] ??= value;
  }
  return { ...parse(FactsSchema, values, `answers of the check of ${name}`), has, conf };
}
