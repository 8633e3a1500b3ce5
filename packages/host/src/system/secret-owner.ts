/** Which machine the host's secret of systemd was made on. */
import { createHmac } from "node:crypto";

/** systemd's application id for the host's secret (creds-util.c, `credential_app_id`). */
const SECRET_APPLICATION = Buffer.from("d3acecba0dad4cdfb8c9381528936c58", "hex");
export const ID_BYTES = 16;

/** The prefix of the host's secret for this machine id (sd_id128_get_machine_app_specific(3)). */
export function secretOwner(machineId: string): string {
  const id = createHmac("sha256", Buffer.from(machineId.trim(), "hex"))
    .update(SECRET_APPLICATION)
    .digest()
    .subarray(0, ID_BYTES);
  // A UUID of version 4 (RFC 9562).
  id[6] = ((id[6] ?? 0) & 0x0f) | 0x40;
  id[8] = ((id[8] ?? 0) & 0x3f) | 0x80;
  return id.toString("hex");
}
