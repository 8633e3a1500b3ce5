/**
 * A fleet on a real homeserver whose machines are accounts: the tests write the machines' state with them, and nothing runs
 * there. Commands run as an operator without a Bureau on this host.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { login } from "@bureau/matrix/auth";
import { MatrixSession } from "@bureau/matrix/session";
import { egressFetch } from "@bureau/os/egress";
import { eventTypes } from "@bureau/schema/events";
import {
  type FleetLocalpart,
  fleetOf,
  type MachineLocalpart,
  namespaceOf,
  rooms,
  stateKeyOf,
} from "@bureau/schema/refs";
import { bureauCommand, type CommandResult } from "@bureau/testkit/bureau";
import { type EmbeddedHomeserver, startEmbeddedHomeserver } from "@bureau/testkit/embedded-homeserver";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { provisionMachine } from "../../packages/control/src/machines/provision.ts";
import { ensureAdministrator } from "../../packages/control/src/principals/administrator.ts";
import { ensureFleet, ensureNamespace } from "../../packages/control/src/rooms/namespace-setup.ts";
import { roomOf } from "../../packages/control/src/rooms/places.ts";
import { credentialFileAt } from "../../packages/instance/src/credential-file.ts";

export type Command = Bun.Subprocess<"ignore", "pipe", "pipe">;

export class FleetOfAccounts implements AsyncDisposable {
  readonly dir: string;
  /** The administrator's; the commands use it too. */
  readonly credentials: string;
  readonly homeserver: EmbeddedHomeserver;
  readonly session: MatrixSession;

  private constructor(homeserver: EmbeddedHomeserver, session: MatrixSession, dir: string) {
    this.homeserver = homeserver;
    this.session = session;
    this.dir = dir;
    this.credentials = join(dir, "credentials");
  }

  static async start(fleets: readonly FleetLocalpart[]): Promise<FleetOfAccounts> {
    const dir = mkdtempSync(join(tmpdir(), "bfa-"));
    const homeserver = await startEmbeddedHomeserver();
    const { session } = await ensureAdministrator({
      fetch: egressFetch,
      homeserver: homeserver.url,
      registrationToken: homeserver.registrationToken,
      store: credentialFileAt(join(dir, "credentials")),
    });
    for (const fleet of fleets) {
      await ensureNamespace(session, namespaceOf(fleet));
      await ensureFleet(session, fleet);
    }
    return new FleetOfAccounts(homeserver, session, dir);
  }

  /** Provisions a machine and joins with its own account. Returns its session: only a machine may report its state. */
  async join(
    machine: MachineLocalpart,
    facts: { readonly hostname: string; readonly labels?: Readonly<Record<string, string>> },
  ): Promise<MatrixSession> {
    const { bootstrap, configRoom } = await provisionMachine({
      session: this.session,
      machine,
      registrationToken: this.homeserver.registrationToken,
      homeserver: this.homeserver.url,
    });
    const granted = await login({ ...this.session.server, user: machine, password: bootstrap.password });
    const own = new MatrixSession({ ...this.session.server, ...granted });
    const room = await roomOf(this.session, rooms.fleetMachines(fleetOf(machine)));
    for (const joined of [room, configRoom]) await own.joinRoom(joined);
    const key = stateKeyOf(granted.userId);
    await own.putState(room, eventTypes.machineKey, key, {
      algorithm: "age-x25519",
      public_key: await identityToRecipient(await generateX25519Identity()),
    });
    await own.putState(room, eventTypes.machineInfo, key, {
      principal: granted.userId,
      kernel_version: "6",
      cpu: { model: "c", sockets: 1, cores_per_socket: 1, threads_per_core: 1 },
      memory_total_mb: 1,
      daemon_version: "1.0",
      ...facts,
    });
    return own;
  }

  /** Starts `bureau`. `host` gives the command locks of its own, as on another host. */
  spawn(args: readonly string[], host = "here"): Command {
    const runtime = join(this.dir, host);
    mkdirSync(runtime, { recursive: true });
    return Bun.spawn([bureauCommand, ...args], {
      cwd: this.dir,
      env: {
        PATH: process.env["PATH"] ?? "",
        HOME: this.dir,
        BUREAU_HOME: join(this.dir, "none"),
        XDG_RUNTIME_DIR: runtime,
      },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
  }

  /** Runs `bureau` to its end, as the administrator. */
  run(...args: string[]): Promise<CommandResult> {
    return resultOf(this.spawn([...args, "--credential-file", this.credentials]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.homeserver[Symbol.asyncDispose]();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export async function resultOf(command: Command): Promise<CommandResult> {
  const [stdout, stderr, code] = await Promise.all([
    new Response(command.stdout).text(),
    new Response(command.stderr).text(),
    command.exited,
  ]);
  return { code, stdout, stderr };
}
