/**
 * Becoming root on a host. If sudo needs a password, this asks for it and passes it to sudo on standard input, before the
 * input of the command; never in an argument, and without a terminal on the host. It is tried with a command without
 * input first: with a wrong password, sudo would read the next line, which is the command's.
 */
import { BureauError } from "@bureau/kit/errors";
import { Secret } from "@bureau/kit/secret";
import type { Ran, RunOptions } from "@bureau/os/run-to-end";
import type { HostShell } from "../remote/host-shell.ts";
import type { HostFacts } from "./host-check.ts";

export type Root = {
  /** Runs a program as root; standard input is only for texts. */
  run(argv: readonly string[], options: RunOptions & { readonly stdin?: string }): Promise<Ran>;
};

const TRY_MS_MAX = 30_000;
const TRIES = 3;
/** A shell's exit code for a program that is not there. */
const NO_PROGRAM = 127;

/** How to become root there, for commands that do not run the whole check of a host. */
export async function privilegeOf(host: HostShell): Promise<HostFacts["PRIVILEGE"]> {
  const run = async (...argv: string[]): Promise<Ran> => host.run(argv, { timeoutMs: TRY_MS_MAX });
  if ((await run("id", "-u")).stdout.trim() === "0") return "root";
  const sudo = await run("sudo", "-n", "-k", "true");
  return sudo.code === 0 ? "sudo" : sudo.code === NO_PROGRAM ? "none" : "sudo-password";
}

/** @throws BureauError `forbidden` when sudo does not accept what is typed */
export async function becomeRoot(
  host: HostShell,
  how: HostFacts["PRIVILEGE"],
  askPassword: () => Promise<string>,
): Promise<Root> {
  if (how === "root") return { run: (argv, options) => host.run(argv, options) };
  if (how === "none")
    throw new BureauError("forbidden", `Cannot become root on ${host.name}: it has no sudo`, {
      hint: "ssh://root@…",
    });
  if (how === "sudo") return { run: (argv, options) => host.run(["sudo", "-n", "--", ...argv], options) };
  const password = await acceptedPassword(host, askPassword);
  return {
    // -k: sudo always asks, so that the first line is always the password.
    run: (argv, options) =>
      host.run(["sudo", "-k", "-S", "-p", "", "--", ...argv], {
        ...options,
        stdin: `${password.reveal()}\n${options.stdin ?? ""}`,
      }),
  };
}

async function acceptedPassword(host: HostShell, askPassword: () => Promise<string>): Promise<Secret> {
  for (let tries = 0; tries < TRIES; tries++) {
    const password = new Secret(await askPassword());
    const tried = await host.run(["sudo", "-k", "-S", "-p", "", "--", "true"], {
      stdin: `${password.reveal()}\n`,
      timeoutMs: TRY_MS_MAX,
    });
    if (tried.code === 0) return password;
  }
  throw new BureauError("forbidden", `Cannot become root on ${host.name}: sudo did not accept the password`, {
    hint: "check that sudo works for you there, or deploy to ssh://root@…",
  });
}
