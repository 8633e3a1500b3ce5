/** The requests of `bureau up`, `down` and `status` to the supervisor, over supervisor.sock in CBOR. */
import { callCbor } from "@bureau/os/cbor-client";
import type { InstanceLayout } from "@bureau/os/layout";
import { list } from "@bureau/schema/parse";
import * as v from "valibot";

/** In the order of their start; they stop in the opposite order. */
export const programNames = ["homeserver", "launcher", "daemon"] as const;
export type ProgramName = (typeof programNames)[number];

export const supervisorRequests = {
  status: v.object({}),
  start: v.object({ program: v.picklist(programNames) }),
  /** Answers at once; the supervisor has exited when its socket is removed. */
  stop: v.object({}),
} as const;

const ProgramReportSchema = v.object({
  name: v.picklist(programNames),
  state: v.picklist(["running", "backing-off", "stopped", "revoked"]),
  pid: v.optional(v.number()),
  restarts: v.number(),
  last_exit: v.optional(v.string()),
});
const SupervisorStatusSchema = v.object({ pid: v.number(), programs: list(ProgramReportSchema) });
export type SupervisorStatus = v.InferOutput<typeof SupervisorStatusSchema>;

const peer = { peer: "supervisor", hint: "bureau up", timeoutMs: 10_000 } as const;

/** @throws BureauError `unavailable` when the instance is down */
export const supervisorStatus = (layout: InstanceLayout): Promise<SupervisorStatus> =>
  callCbor(layout.supervisorSocket, { action: "status" }, SupervisorStatusSchema, peer);

export async function startProgram(layout: InstanceLayout, program: ProgramName): Promise<void> {
  await callCbor(layout.supervisorSocket, { action: "start", program }, v.undefined(), peer);
}

export async function stopSupervisor(layout: InstanceLayout): Promise<void> {
  await callCbor(layout.supervisorSocket, { action: "stop" }, v.undefined(), peer);
}
