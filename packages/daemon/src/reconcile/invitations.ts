/**
 * Before a principal starts, this machine invites it to the rooms it works in, as the reference's daemon does; its
 * proxy accepts. Services: system room, fleet room, and the fleet's service room. Principals with a workspace: the
 * workspace's room. Not the config room (decision 31).
 *
 * Best effort: a machine may lack the level, a homeserver may be down. A failure does not keep a principal from
 * starting.
 */
import type { Runtime } from "@bureau/kit/runtime";
import type { MatrixSession } from "@bureau/matrix/session";
import type { RoomId, UserId } from "@bureau/schema/refs";
import * as v from "valibot";
import type { DesiredPrincipal, WantedSandbox } from "../desired/desired.ts";
import type { MachineRooms } from "../sync/machine-rooms.ts";
import { workingRooms } from "./working-rooms.ts";

/** The longest wait of a start. */
const INVITE_MS_MAX = 3_000;

const MembershipSchema = v.object({ membership: v.string() });

export type InvitationsDeps = Pick<Runtime, "clock" | "log"> & {
  readonly session: Pick<MatrixSession, "getState" | "inviteUser">;
  /** Undefined until the rooms are known. */
  readonly rooms: () => MachineRooms | undefined;
};

export class Invitations {
  readonly #deps: InvitationsDeps;
  /** Room and user of every known member or invitee: not invited again. */
  readonly #known = new Set<string>();

  constructor(deps: InvitationsDeps) {
    this.#deps = deps;
  }

  /** Never rejects. */
  async send({ account, userId }: DesiredPrincipal, sandbox: WantedSandbox): Promise<void> {
    const { clock, rooms } = this.#deps;
    const wanted = workingRooms(account, sandbox, rooms());
    const all = Promise.all(wanted.map((room) => this.#invite(room, userId)));
    await Promise.race([all, clock.sleep(INVITE_MS_MAX)]);
  }

  async #invite(room: RoomId, user: UserId): Promise<void> {
    const { session, log } = this.#deps;
    const key = `${room} ${user}`;
    if (this.#known.has(key)) return;
    try {
      const member = v.safeParse(MembershipSchema, await session.getState(room, "m.room.member", user));
      const membership = member.success ? member.output.membership : "leave";
      if (membership !== "join" && membership !== "invite") await session.inviteUser(room, user);
      this.#known.add(key);
    } catch (error) {
      log.info("room.invite-failed", "cannot invite a principal to a room it works in", {
        room,
        user,
        error,
      });
    }
  }
}
