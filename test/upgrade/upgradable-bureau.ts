/** A running instance whose machine can be upgraded. */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { eventTypes, type MachineVersion } from "@bureau/schema/events";
import { aliasOf, type RoomId, rooms, stateKeyOf, userIdOf } from "@bureau/schema/refs";
import { createBureau, type TestBureau } from "@bureau/testkit/bureau";
import { eventually } from "@bureau/testkit/use-bureau";
import { requireInstance } from "../../packages/instance/src/instance.ts";

const ANSWER_MS_MAX = 60_000;

export class UpgradableBureau implements AsyncDisposable {
  private constructor(
    readonly bureau: TestBureau,
    readonly room: RoomId,
    readonly key: string,
  ) {}

  /** `times` shortens an upgrade; see `daemon/upgrade/upgrade-times`. */
  static async open(times?: Readonly<Record<string, number>>): Promise<UpgradableBureau> {
    const bureau = createBureau(
      times === undefined ? {} : { env: { BUREAU_UPGRADE_TIMES: JSON.stringify(times) } },
    );
    await bureau.json("up");
    const { machine, serverName } = requireInstance(bureau.layout);
    const room = await bureau.session().resolveAlias(aliasOf(rooms.config(machine), serverName));
    if (room === undefined) throw new Error("no config room");
    return new UpgradableBureau(bureau, room, stateKeyOf(userIdOf(machine, serverName)));
  }

  /** The machine's report of its builds. */
  async version(): Promise<MachineVersion> {
    return (await this.bureau
      .session()
      .getState(this.room, eventTypes.machineVersion, this.key)) as MachineVersion;
  }

  /** Requests the build at `path` and waits for its outcome, the first entry of the history. */
  async ask(path: string, timeoutMs = ANSWER_MS_MAX): Promise<MachineVersion> {
    const session = this.bureau.session();
    const request_id = randomUUID();
    const store = (name: string): string => join(path, "bin", name);
    const config = (await session.getState(this.room, eventTypes.machineConfig, this.key)) as object;
    await session.putState(this.room, eventTypes.machineConfig, this.key, {
      ...config,
      bureau_version: {
        daemon_store_path: store("bureau-daemon"),
        launcher_store_path: store("bureau-launcher"),
        proxy_store_path: store("bureau-proxy"),
        host_environment_path: path,
        request_id,
        requested_by: session.userId,
        requested_at: new Date().toISOString(),
      },
    });
    return await eventually(
      async () => {
        const now = await this.version();
        const isOver = now.history?.some((entry) => entry.request_id === request_id);
        return isOver && now.state !== "upgrading" ? now : undefined;
      },
      {
        timeoutMs,
        describe: async () => JSON.stringify(await this.version()) + (await this.bureau.run("status")).stdout,
      },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.bureau[Symbol.asyncDispose]();
  }
}
