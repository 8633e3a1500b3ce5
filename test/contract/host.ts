/** A host that becomes a machine. Starts its programs as its service manager would. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { bureauCommand } from "@bureau/testkit/bureau";
import { eventually } from "@bureau/testkit/use-bureau";

const programs = dirname(bureauCommand);

/** Its folders, launcher and daemon. */
export class Host implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), "bmh-"));
  readonly bootstrap = join(this.dir, "bootstrap.json");
  #running: Bun.Subprocess[] = [];

  constructor(
    readonly name: string,
    readonly server: string,
    readonly fleet: string,
  ) {}

  get machine(): string {
    return `${this.fleet}/machine/${this.name}`;
  }

  start(program: "launcher" | "daemon", ...extra: string[]): Bun.Subprocess {
    const folder = (flag: string, name: string): string[] => {
      mkdirSync(join(this.dir, name), { recursive: true, mode: 0o700 });
      return [flag, join(this.dir, name)];
    };
    rmSync(this.log(program), { force: true });
    const child = Bun.spawn(
      [
        ...[
          join(programs, `bureau-${program}`),
          "--machine-name",
          this.machine,
          "--server-name",
          this.server,
        ],
        ...["--fleet", this.fleet, ...folder("--run-dir", "r"), ...folder("--state-dir", "s")],
        ...[...folder("--workspace-root", "w"), ...folder("--cache-root", "c"), ...extra],
      ],
      { stdin: "ignore", stdout: "ignore", stderr: Bun.file(this.log(program)) },
    );
    this.#running.push(child);
    return child;
  }

  log = (program: string): string => join(this.dir, `${program}.log`);
  logText = (program: string): string =>
    existsSync(this.log(program)) ? readFileSync(this.log(program), "utf8") : "";

  async firstBoot(bootstrap = this.bootstrap): Promise<number> {
    return this.start("launcher", "--first-boot-only", "--bootstrap-file", bootstrap).exited;
  }

  /** Starts the launcher, then the daemon, as the service manager would. */
  async startBoth(): Promise<Bun.Subprocess> {
    this.start("launcher", "--bootstrap-file", this.bootstrap);
    await eventually(async () => (this.logText("launcher").includes("launcher ready") ? true : undefined), {
      describe: () => this.logText("launcher"),
    });
    return this.start("daemon");
  }

  async stop(): Promise<void> {
    for (const child of this.#running.splice(0).reverse()) {
      child.kill("SIGTERM");
      await child.exited;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
