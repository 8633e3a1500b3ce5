import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  setDefaultTimeout,
  test,
} from "bun:test";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readBuild } from "@bureau/os/build";
import { bureauCommand } from "@bureau/testkit/bureau";
import { type Sshd, sshdProgram, startSshd } from "@bureau/testkit/sshd";
import type { HostShell } from "../remote/host-shell.ts";
import { localShell } from "../remote/local.ts";
import { sshShell } from "../remote/ssh.ts";
import { bringPrograms, removeStaging } from "./bring-programs.ts";
import { buildFiles, checksums, writeArchive } from "./build-archive.ts";

// A test packs a build several times, which takes half a minute on a slow machine.
setDefaultTimeout(180_000);

const build = realpathSync(join(bureauCommand, "../.."));
const id = readBuild(build).id;
const uid = process.getuid?.() ?? 0;
const machine = process.arch === "arm64" ? "aarch64" : "x86_64";
let staging: string;

beforeEach(() => {
  staging = mkdtempSync(join(tmpdir(), "bureau-staging-"));
});
afterEach(() => rmSync(staging, { recursive: true, force: true }));

const facts = (has = ["tar", "gzip", "zstd", "sha256sum"]) => ({
  ARCH: machine,
  STAGING: staging,
  UID: uid,
  has,
});

/** A host whose connection drops after this many bytes of the first transfer. */
function dropping(host: HostShell, afterBytes: number): HostShell {
  let dropped = false;
  return {
    ...host,
    run: (argv, options) => {
      const { stdin } = options;
      if (dropped || stdin === undefined || typeof stdin === "string" || stdin instanceof Uint8Array)
        return host.run(argv, options);
      async function* cut(input: AsyncIterable<Uint8Array>) {
        let bytes = 0;
        for await (const chunk of input) {
          yield chunk;
          bytes += chunk.length;
          if (bytes >= afterBytes) break;
        }
        dropped = true;
      }
      return host.run(argv, { ...options, stdin: cut(stdin) }).then(() => {
        throw new Error("the connection dropped");
      });
    },
  };
}

describe("a build", () => {
  test("gives the same archive each time, which tar unpacks to the same files", async () => {
    const files = buildFiles(build, machine);
    const one = await writeArchive(files, "gzip", join(staging, "one"));
    const two = await writeArchive(files, "gzip", join(staging, "two"));
    expect(two.sha256).toBe(one.sha256);
    mkdirSync(join(staging, "out"));
    Bun.spawnSync(["tar", "-xzpf", one.path, "-C", join(staging, "out")]);
    writeFileSync(join(staging, "sums"), await checksums(files));
    const checked = Bun.spawnSync(["sha256sum", "-c", "--quiet", "../sums"], { cwd: join(staging, "out") });
    expect(checked.exitCode).toBe(0);
    expect(statSync(join(staging, "out", "bin", "bureau")).mode & 0o777).toBe(0o755);
    expect(statSync(join(staging, "out", "lib")).mode & 0o777).toBe(0o755);
    expect(statSync(join(staging, "out", "build.json")).mode & 0o777).toBe(0o644);
  });

  test("cannot be made for an architecture whose runtime is missing", () => {
    expect(() => buildFiles(build, "riscv64")).toThrow("its runtime is not here");
  });
});

function bringing(host: () => HostShell): void {
  test("sends a build once, and nothing when the host already has it", async () => {
    const said: string[] = [];
    const options = { host: host(), facts: facts(), build, onProgress: (text: string) => said.push(text) };
    const brought = await bringPrograms(options);
    expect(brought.sentBytes).toBeGreaterThan(10_000_000);
    expect(said.at(-2)).toContain("(100 %)");
    expect(readFileSync(join(brought.path, "build.json"), "utf8")).toBe(
      readFileSync(join(build, "build.json"), "utf8"),
    );
    expect(await bringPrograms(options)).toEqual({ path: brought.path, sentBytes: 0 });
    await removeStaging(host(), staging);
    expect(readdirSync(staging)).toEqual([]);
  });

  test("resumes a transfer where the connection dropped", async () => {
    const cutOff = bringPrograms({ host: dropping(host(), 20_000_000), facts: facts(), build });
    await expect(cutOff).rejects.toThrow("the connection dropped");
    const whole = await bringPrograms({ host: host(), facts: facts(), build });
    const folder = join(staging, `bureau-deploy-${uid}-${id}`);
    expect(readdirSync(folder).sort()).toEqual([id, "sums"].sort());
    const { bytes } = await writeArchive(buildFiles(build, machine), "zstd", join(staging, "again"));
    expect(whole.sentBytes).toBeLessThanOrEqual(bytes - 20_000_000);
    expect(whole.sentBytes).toBeGreaterThan(0);
  });
}

describe("bringing it to this machine", () => {
  bringing(() => localShell());

  test("sends the build again when a file changed, or the part that arrived is damaged", async () => {
    const { path } = await bringPrograms({ host: localShell(), facts: facts(), build });
    appendFileSync(join(path, "bin", "bureau"), "# more\n");
    expect((await bringPrograms({ host: localShell(), facts: facts(), build })).sentBytes).toBeGreaterThan(0);
    rmSync(path, { recursive: true });
    const archive = await writeArchive(buildFiles(build, machine), "zstd", join(staging, "a"));
    const part = join(staging, `bureau-deploy-${uid}-${id}`, `${archive.sha256.slice(0, 16)}.part`);
    writeFileSync(part, "");
    truncateSync(part, 1_000_000);
    const { sentBytes } = await bringPrograms({ host: localShell(), facts: facts(), build });
    expect(sentBytes).toBe(2 * archive.bytes - 1_000_000);
    expect(existsSync(part)).toBe(false);
  });

  test("refuses a folder that another user made", async () => {
    symlinkSync(tmpdir(), join(staging, `bureau-deploy-${uid}-${id}`));
    const refused = bringPrograms({ host: localShell(), facts: facts(), build });
    await expect(refused).rejects.toThrow("belongs to another user");
  });

  test("closes the folder that root runs programs from to other users", async () => {
    mkdirSync(join(staging, `bureau-deploy-${uid}-${id}`), { mode: 0o755 });
    chmodSync(join(staging, `bureau-deploy-${uid}-${id}`), 0o777);
    await bringPrograms({ host: localShell(), facts: facts(), build });
    expect(statSync(join(staging, `bureau-deploy-${uid}-${id}`)).mode & 0o777).toBe(0o700);
  });

  test("quotes the host's error when it cannot write there", async () => {
    const nowhere = { ...facts(), STAGING: "/proc/nowhere" };
    const refused = bringPrograms({ host: localShell(), facts: nowhere, build });
    await expect(refused).rejects.toThrow("No such file or directory");
  });
});

// Skipped loudly by ssh.sshd.test.ts where there is no sshd.
describe.skipIf(sshdProgram === null)("bringing it over ssh", () => {
  let sshd: Sshd;
  let shell: HostShell;
  beforeAll(async () => {
    sshd = await startSshd();
    shell = await sshShell(
      { kind: "ssh", host: "127.0.0.1", user: sshd.user, port: sshd.port },
      { options: sshd.options, interactive: false },
    );
  });
  afterAll(async () => {
    await shell?.[Symbol.asyncDispose]();
    await sshd?.[Symbol.asyncDispose]();
  });
  bringing(() => shell);
});
