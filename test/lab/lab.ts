/**
 * A lab: real Debian machines with real systemd, on their own network, for one test or one person.
 *
 * ```ts
 * await using lab = await openLab();
 * const [m1, m2] = await Promise.all([lab.boot("m1"), lab.boot("m2", { image: "nix" })]);
 * const hs = await lab.homeserver({ engine: "embedded" });
 * await m1.ok(`curl -fsS ${hs.url}/_matrix/client/versions`, { user: "alice" });
 * await m1.powerCut();
 * ```
 *
 * Every machine has the users `alice` (may use sudo without a password) and `mallory` (may nothing), knows the others by
 * name, and sees the repository's newest build read-only at {@link buildInside}. A machine that was asked for is made
 * from nothing; nothing of an earlier lab is in it.
 *
 * Disposing removes everything; so does the end of this process, even by a kill (see enclosure.ts).
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, realpathSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, BureauError } from "@bureau/kit/errors";
import { identify } from "@bureau/os/process-table";
import { currentBuild } from "../../scripts/build.ts";
import { machineCgroup, removeCgroups } from "./cgroup.ts";
import { makeDisk } from "./disk.ts";
import { type Enclosure, openEnclosure } from "./enclosure.ts";
import {
  HOMESERVER,
  type HomeserverOptions,
  type LabHomeserver,
  SERVER_NAME,
  startLabHomeserver,
} from "./homeserver.ts";
import { ensureImage, type ImageVariant } from "./image.ts";
import { type LabRecord, removeRecord, sweepLabs, writeRecord } from "./lab-record.ts";
import { buildInside, Machine } from "./machine.ts";
import { type LabNetwork, openNetwork } from "./network.ts";

export type BootOptions = {
  /** The image to boot (image.ts); default `plain`. */
  readonly image?: ImageVariant;
  /** The user of commands by default; default `root`. */
  readonly user?: string;
  /** The build at {@link buildInside}; default the newest. */
  readonly build?: string;
  /** Further folders of the host and where the machine sees them, read-only. */
  readonly binds?: Readonly<Record<string, string>>;
};

export type LabOptions = {
  readonly kind?: LabRecord["kind"];
  /** Receives progress messages. */
  readonly say?: (line: string) => void;
};

export type Lab = AsyncDisposable & {
  /** Distinguishes labs; a few letters and digits. */
  readonly tag: string;
  /** Consoles and disks; gone with the lab. */
  readonly folder: string;
  /** Makes a machine and boots it; several may be asked for at once. */
  boot(name: string, options?: BootOptions): Promise<Machine>;
  /** A machine that was booted. */
  machine(name: string): Machine;
  machines(): readonly Machine[];
  /** The lab's homeserver, at `bureau.lab`. One a lab. */
  homeserver(options: HomeserverOptions): Promise<LabHomeserver>;
  /** Pulls a machine's network cable, or plugs it in again. */
  setCable(name: string, plugged: boolean): Promise<void>;
  /** Marks the lab as up in the list of labs. */
  markReady(): void;
};

export async function openLab(options: LabOptions = {}): Promise<Lab> {
  if (process.getuid?.() !== 0)
    throw new BureauError("unsupported", "The lab boots machines, which needs root", {
      hint: "sudo npm run test:lab",
    });
  await sweepLabs();
  const tag = randomBytes(3).toString("hex");
  const folder = join(realpathSync(tmpdir()), `bureau-lab-${tag}`);
  mkdirSync(folder, { mode: 0o700 });
  const enclosure = await openEnclosure(tag, folder);
  try {
    const network = await openNetwork(enclosure);
    return new OpenLab(tag, folder, enclosure, network, options);
  } catch (error) {
    await enclosure[Symbol.asyncDispose]();
    throw error;
  }
}

class OpenLab implements Lab {
  readonly #machines = new Map<string, Machine>();
  readonly #addresses = new Map<string, string>();
  /** Of every disk, in the enclosure. */
  readonly #roots: string[] = [];
  /** The latest update of the machines' host lists. Each waits for the one before, so that the newest list is written last. */
  #introduced: Promise<void> = Promise.resolve();
  #ready = false;
  #closed = false;

  constructor(
    readonly tag: string,
    readonly folder: string,
    readonly enclosure: Enclosure,
    readonly network: LabNetwork,
    readonly options: LabOptions,
  ) {
    this.#record();
  }

  async boot(name: string, options: BootOptions = {}): Promise<Machine> {
    if (name === HOMESERVER)
      throw new BureauError("conflict", `"${name}" is the name of the lab's homeserver`, {
        hint: 'lab.homeserver({ engine: "embedded" }), or: npm run lab -- up --engine embedded',
      });
    return await this.#boot(name, options);
  }

  async #boot(name: string, options: BootOptions = {}): Promise<Machine> {
    const address = await this.#claim(name);
    const image = await ensureImage(options.image ?? "plain", this.options.say);
    const folder = join(this.folder, name);
    const root = await makeDisk(this.enclosure, image, folder, name);
    this.#roots.push(root);
    // Before it boots too, because its units may look up the others at once.
    await this.#introduce();
    const machine = new Machine({
      name,
      address,
      user: options.user ?? "root",
      enclosure: this.enclosure,
      root,
      cgroup: machineCgroup(this.tag, name),
      consoleFile: join(folder, "console.log"),
      binds: { [realpathSync(options.build ?? currentBuild)]: buildInside, ...options.binds },
      onChange: () => this.#record(),
    });
    this.#machines.set(name, machine);
    await machine.start();
    return machine;
  }

  machine(name: string): Machine {
    const machine = this.#machines.get(name);
    if (machine !== undefined) return machine;
    const names = [...this.#machines.keys()].join(", ");
    throw new BureauError("not-found", `The lab has no machine "${name}"; it has ${names}`);
  }

  machines(): readonly Machine[] {
    return [...this.#machines.values()];
  }

  async homeserver(options: HomeserverOptions): Promise<LabHomeserver> {
    return await startLabHomeserver(
      {
        boot: (name) => this.#boot(name),
        claim: (name) => this.#claim(name),
        enclosure: this.enclosure,
        folder: this.folder,
        introduce: () => this.#introduce(),
      },
      options,
    );
  }

  async setCable(name: string, plugged: boolean): Promise<void> {
    await this.network.setCable(name, plugged);
  }

  markReady(): void {
    this.#ready = true;
    this.#record();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.enclosure[Symbol.asyncDispose]();
    await removeCgroups(this.tag);
    removeRecord(this.tag);
  }

  /** Takes a name, and an address for it. */
  async #claim(name: string): Promise<string> {
    if (!/^[a-z][a-z0-9-]{0,30}$/u.test(name))
      throw new BureauError("invalid-input", `"${name}" is no name for a machine`, {
        hint: "small letters, digits and hyphens, at most 31",
      });
    if (this.#addresses.has(name))
      throw new BureauError("conflict", `The lab has a machine "${name}" already`);
    this.#addresses.set(name, "");
    const address = await this.network.join(name);
    this.#addresses.set(name, address);
    return address;
  }

  /** Writes every name and address onto every disk. */
  #introduce(): Promise<void> {
    const write = async (): Promise<void> => {
      const known = [...this.#addresses].filter(([, address]) => address !== "");
      const names = known.map(
        ([name, at]) => `${at} ${name === HOMESERVER ? `${name} ${SERVER_NAME}` : name}`,
      );
      const input = ["127.0.0.1 localhost", "::1 localhost", ...names, ""].join("\n");
      const replace = "cat > /etc/hosts.new && mv /etc/hosts.new /etc/hosts";
      const written = this.#roots.map((root) =>
        this.enclosure.executeOk(["chroot", root, "sh", "-euc", replace], { input }),
      );
      await Promise.all(written);
    };
    this.#introduced = this.#introduced.catch(() => {}).then(write);
    return this.#introduced;
  }

  #record(): void {
    if (this.#closed) return;
    const owner = identify(process.pid);
    assert(owner !== undefined, "this process lives");
    writeRecord({
      tag: this.tag,
      kind: this.options.kind ?? "run",
      ready: this.#ready,
      owner,
      enclosure: this.enclosure.process,
      folder: this.folder,
      machines: this.machines().map(({ name, address, holder }) => ({
        name,
        address,
        ...(holder === undefined ? {} : { holder }),
      })),
    });
  }
}
