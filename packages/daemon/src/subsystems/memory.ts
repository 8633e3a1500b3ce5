/** Returns memory to the host once the daemon is idle after changes. */
import { IdleCollection } from "@bureau/os/idle-collection";
import { subsystem } from "../assembly/subsystem.ts";

export const memory = subsystem({
  name: "memory",
  needs: {},
  start(_needs: object, { hub, clock }) {
    const collection = new IdleCollection(clock);
    for (const topic of ["rooms.changed", "health.changed", "sandbox.gone"] as const)
      hub.on(topic, () => collection.acted());
    return { part: undefined, stop: () => collection[Symbol.dispose]() };
  },
});
