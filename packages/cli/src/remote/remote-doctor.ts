/**
 * `bureau machine doctor ssh://user@host`: the doctor that is installed there is run there, with the same flags; what it
 * prints and its exit code are passed through as they are.
 */
import { BureauError } from "@bureau/kit/errors";
import { systemHost } from "@bureau/os/layout";
import { readNamed } from "@bureau/os/named-file";
import { askPassword } from "../command/ask-password.ts";
import type { CommandContext } from "../command/command.ts";
import { becomeRoot, privilegeOf } from "../deploy/privilege.ts";
import { flagWords } from "./flag-words.ts";
import { type HostShell, withoutControls } from "./host-shell.ts";
import { openShell } from "./open-shell.ts";
import type { SshValues } from "./ssh-flags.ts";
import type { Target } from "./target.ts";

const DOCTOR_MS_MAX = 900_000;
const LOOK_MS_MAX = 30_000;
/** Flags that are about this end. */
const ownFlags = ["ssh-option", "home", "system", "bootstrap-file"];
/** With these, things are changed: root's work. */
const changing = ["fix", "undo", "uninstall"] as const;

type Asked = Pick<CommandContext, "terminal"> & {
  readonly flags: SshValues & { readonly "bootstrap-file": string | undefined } & Readonly<
      Record<(typeof changing)[number], boolean>
    >;
  /** The target to name in a hint at bureau machine deploy. */
  readonly deployTarget: string;
};

/** The exit code of the doctor there. @throws BureauError `not-found` when Bureau is not installed there */
export async function remoteDoctor(target: Target, invocation: Asked): Promise<number> {
  const { terminal, flags } = invocation;
  await using host = await openShell(target, flags["ssh-option"]);
  const program = `${systemHost.binDir}/bureau`;
  if ((await host.run(["test", "-x", program], { timeoutMs: LOOK_MS_MAX })).code !== 0)
    throw new BureauError("not-found", `Bureau is not installed on ${host.name}: there is no ${program}`, {
      hint: `bureau machine deploy ${invocation.deployTarget}`,
    });
  const bootstrapFile = flags["bootstrap-file"];
  const argv = [
    program,
    ...["machine", "doctor", "--system"],
    ...flagWords(flags, ownFlags),
    ...(bootstrapFile === undefined ? [] : ["--bootstrap-file", "-"]),
  ];
  const shell = changing.some((name) => flags[name]) ? await rootOn(host) : host;
  const { code, stdout } = await shell.run(argv, {
    stdin: bootstrapFile === undefined ? "" : readNamed(bootstrapFile, "the bootstrap file"),
    timeoutMs: DOCTOR_MS_MAX,
    onLine: (line) => terminal.say(withoutControls(line)),
  });
  for (const line of stdout.trimEnd().split("\n")) terminal.print(withoutControls(line));
  return code;
}

async function rootOn(host: HostShell): Promise<Pick<HostShell, "run">> {
  const ask = (): Promise<string> =>
    askPassword(`${host.name} for sudo`, "run this in a terminal, or use ssh://root@…");
  const root = await becomeRoot(host, await privilegeOf(host), ask);
  return {
    run: (argv, { stdin, ...how }) =>
      root.run(argv, { ...how, stdin: typeof stdin === "string" ? stdin : "" }),
  };
}
