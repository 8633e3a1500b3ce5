/** A person at a workstation without a Bureau, who types commands. */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MatrixSession } from "@bureau/matrix/session";
import { egressFetch } from "@bureau/os/egress";
import { readOperatorSession } from "@bureau/os/session-file";
import { bureauCommand, type CommandResult } from "@bureau/testkit/bureau";

/** The arguments that set up a namespace at a homeserver, with the registration token in a file. */
export const matrixSetup = (homeserver: string, tokenFile: string, ...more: string[]): string[] => [
  ...["matrix", "setup", "--homeserver", homeserver, "--registration-token-file", tokenFile],
  ...more,
];

/** A home, a credential file, a session, and no Bureau. */
export class Person {
  readonly dir = mkdtempSync(join(tmpdir(), "bmp-"));
  readonly credentials = join(this.dir, ".config/bureau/credentials");
  readonly sessionFile = join(this.dir, ".config/bureau/session.json");

  async run(...args: string[]): Promise<CommandResult> {
    const { PATH } = process.env;
    const child = Bun.spawn([bureauCommand, ...args], {
      cwd: this.dir,
      env: {
        ...(PATH === undefined ? {} : { PATH }),
        HOME: this.dir,
        BUREAU_MACHINE_CONF: join(this.dir, "none"),
      },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    return { code, stdout, stderr };
  }

  /** As the administrator, expecting exit 0. */
  async json<T = Record<string, unknown>>(...args: string[]): Promise<T> {
    const { code, stdout, stderr } = await this.run(...args, "--json");
    if (code !== 0) throw new Error(`bureau ${args.join(" ")} exited with ${code}:\n${stdout}${stderr}`);
    return JSON.parse(stdout) as T;
  }

  session(): MatrixSession {
    return new MatrixSession({ ...readOperatorSession(this.sessionFile), fetch: egressFetch });
  }
}
