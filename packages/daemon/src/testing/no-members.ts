/** The members of rooms for tests in which no room has a policy. */
import type { Members } from "../sync/room-members.ts";

export const noMembers: Members & { want(): void } = {
  of: () => undefined,
  revision: 0,
  want() {},
};
