/** Asking one machine to run other binaries: what it says of its version, and what it is told. */
import { type Clock, timestamp } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { MatrixSession } from "@bureau/matrix/session";
import {
  type BureauVersion,
  eventTypes,
  type MachineVersion,
  MachineVersionSchema,
} from "@bureau/schema/events";
import type { UserId } from "@bureau/schema/refs";
import { safeParse } from "valibot";
import type { Editor } from "../editor.ts";
import { type ConfigPlace, editDesiredVersion } from "../machines/machine-config.ts";
import { assumeTarget, type UpgradeTarget } from "./upgrade-target.ts";

/** What the machine last said runs on it; undefined when it never did, in a way that can be read. */
export async function readMachineVersion(
  session: MatrixSession,
  place: ConfigPlace,
): Promise<MachineVersion | undefined> {
  const content = await session.getState(place.room, eventTypes.machineVersion, place.key);
  const parsed = safeParse(MachineVersionSchema, content);
  return parsed.success ? parsed.output : undefined;
}

export const newRequestId = (): string => crypto.randomUUID();

/** The desired state for `target`, asked for now. */
export const versionRequest = (
  target: UpgradeTarget,
  request: { readonly requestId: string; readonly by: UserId; readonly clock: Clock },
): BureauVersion => ({
  ...target.files,
  host_environment_path: target.path,
  request_id: request.requestId,
  requested_by: request.by,
  requested_at: timestamp(request.clock),
});

/** @throws BureauError `conflict` when somebody else asked for something at the same moment */
export async function requestVersion(
  editor: Editor,
  place: ConfigPlace,
  target: UpgradeTarget,
  request: { readonly requestId: string; readonly clock: Clock },
): Promise<void> {
  await editDesiredVersion(editor, place, versionRequest(target, { ...request, by: editor.session.userId }));
}

/** What a rollback asks for. @throws BureauError `not-found` when the machine never ran anything else */
export function rollbackTarget(machine: string, version: MachineVersion | undefined): UpgradeTarget {
  const previous = version?.previous_host_environment_path;
  if (previous === undefined)
    throw new BureauError("not-found", `${machine} knows of no earlier host environment to go back to`, {
      hint: `bureau machine show ${machine} has its history; --host-env PATH asks for any other`,
    });
  return assumeTarget(previous);
}
