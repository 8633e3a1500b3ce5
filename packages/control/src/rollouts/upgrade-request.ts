/** Requests one machine to run another build. */
import { type Clock, timestamp } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import type { BureauVersion, MachineVersion } from "@bureau/schema/events";
import type { UserId } from "@bureau/schema/refs";
import type { Editor } from "../editor.ts";
import type { ConfigPlace } from "../machines/config-parts.ts";
import { editDesiredVersion } from "../machines/machine-config.ts";
import { assumeTarget, type UpgradeTarget } from "./upgrade-target.ts";

export const newRequestId = (): string => crypto.randomUUID();

/** The desired state for `target`, requested now. */
const versionRequest = (
  target: UpgradeTarget,
  request: { readonly requestId: string; readonly by: UserId; readonly clock: Clock },
): BureauVersion => ({
  ...target.files,
  host_environment_path: target.path,
  request_id: request.requestId,
  requested_by: request.by,
  requested_at: timestamp(request.clock),
});

/** @throws BureauError `conflict` when another operator requested something else at the same moment */
export async function requestVersion(
  editor: Editor,
  place: ConfigPlace,
  target: UpgradeTarget,
  request: { readonly requestId: string; readonly clock: Clock },
): Promise<void> {
  await editDesiredVersion(editor, place, versionRequest(target, { ...request, by: editor.session.userId }));
}

/** The build before the present one. @throws BureauError `not-found` when the machine never ran another */
export function rollbackTarget(machine: string, version: MachineVersion | undefined): UpgradeTarget {
  const previous = version?.previous_host_environment_path;
  if (previous === undefined)
    throw new BureauError("not-found", `${machine} has no earlier build to roll back to`, {
      hint: `bureau machine show ${machine} has its history; --host-env PATH asks for any other`,
    });
  return assumeTarget(previous);
}
