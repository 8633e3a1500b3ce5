/** The host that a command is about, as typed: `ssh://[user@]host[:port]`, or `local` for this host. */
import { BureauError } from "@bureau/kit/errors";

export type SshTarget = {
  readonly kind: "ssh";
  /** A host name, an alias of the person's ssh configuration, or an address; IPv6 without brackets. */
  readonly host: string;
  readonly user?: string;
  readonly port?: number;
};
export type Target = SshTarget | { readonly kind: "local" };

/** `ssh://`, then no user or one, a host or an address in brackets, no port or one. */
const sshForm = /^ssh:\/\/(?:([^@/]*)@)?(\[[^\]/]*\]|[^:@/[\]]*)(?::([^/]*))?\/?$/u;
/** Letters, digits and marks that no shell and no program reads as anything else; an option's dash not in front. */
const userForm = /^[A-Za-z0-9_][A-Za-z0-9_.+-]*$/u;
const hostForm = /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/u;
const ipv6Form = /^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9_.-]+)?$/u;
const PORT_MAX = 65_535;

export const looksLikeTarget = (typed: string): boolean => typed === "local" || typed.startsWith("ssh:");

/** @throws BureauError `invalid-input` that says which part is wrong */
export function parseTarget(typed: string): Target {
  if (typed === "local") return { kind: "local" };
  const bad = (problem: string): BureauError =>
    new BureauError("invalid-input", `"${withoutPassword(typed)}" is not a target: ${problem}`, {
      hint: "ssh://root@host, ssh://user@host:port, or local",
    });
  if (!typed.startsWith("ssh://")) throw bad('it begins neither with ssh:// nor is it "local"');
  if (/^ssh:\/\/[^@]*:.*@/u.test(typed))
    throw bad("a password does not belong into it; ssh asks for one, or uses your agent");
  const parts = sshForm.exec(typed);
  if (parts === null) throw bad("it is not ssh://[user@]host[:port], without a path");
  const [, user, bracketed = "", port] = parts;
  if (user !== undefined && !userForm.test(user)) throw bad(`"${user}" cannot be a user name`);
  const isAddress = bracketed.startsWith("[");
  const host = isAddress ? bracketed.slice(1, -1) : bracketed;
  if (!(isAddress ? ipv6Form : hostForm).test(host))
    throw bad(host === "" ? "it names no host" : `"${host}" cannot be a host`);
  if (port !== undefined && (!/^[0-9]{1,5}$/u.test(port) || Number(port) < 1 || Number(port) > PORT_MAX))
    throw bad(`"${port}" is not a port`);
  return {
    kind: "ssh",
    host,
    ...(user === undefined ? {} : { user }),
    ...(port === undefined ? {} : { port: Number(port) }),
  };
}

/** The target as it would be typed. */
export function formatTarget(target: Target): string {
  if (target.kind === "local") return "local";
  const host = target.host.includes(":") ? `[${target.host}]` : target.host;
  const user = target.user === undefined ? "" : `${target.user}@`;
  return `ssh://${user}${host}${target.port === undefined ? "" : `:${target.port}`}`;
}

/** What was typed may hold a password that must not reappear in an error. */
const withoutPassword = (typed: string): string => typed.replace(/^(ssh:\/*[^:@]*):.*@/u, "$1:…@");
