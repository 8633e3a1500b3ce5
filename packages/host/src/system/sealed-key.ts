/**
 * What protects a credential that systemd-creds sealed, and whether this host can still open it, without opening it:
 * systemd deletes the host's secret when a credential is opened under another machine id than the secret was made
 * under, as on a copied disk. The first 16 bytes of the blob name the kind of key (systemd, src/shared/creds-util.h,
 * `CRED_AES256_GCM_BY_*`); the first 16 bytes of the secret name its machine (creds-util.c,
 * `credential_host_secret_format`).
 */
import { ID_BYTES, secretOwner } from "./secret-owner.ts";

export type Seal = "host" | "tpm2" | "host+tpm2" | "none" | "unknown";

const kinds: Readonly<Record<string, Seal>> = {
  "5a1c6a86df9d4096b1d5a65e0862f19a": "host",
  "0c7cc07b117645919c4b0bea08bc20fe": "tpm2",
  faf7eb9341e3412ca1a436f95a29362f: "tpm2",
  "93a894094874449090caf2fc93cab553": "host+tpm2",
  af4950a849134eb1a73846304ff30c05: "host+tpm2",
  "058469daf6f54324800549da0f8ea2fb": "none",
};

/** `text` is the file's content: base64. */
export function sealOf(text: string): Seal {
  return kinds[Buffer.from(text, "base64").subarray(0, 16).toString("hex")] ?? "unknown";
}

export function describeSeal(seal: Seal): string {
  switch (seal) {
    case "host":
      return "sealed with this host's own secret (no TPM)";
    case "tpm2":
      return "sealed to this machine's TPM";
    case "host+tpm2":
      return "sealed to this machine's TPM and its host secret";
    case "none":
      return "sealed with no key at all: every user can open it";
    case "unknown":
      return "not a credential that systemd-creds sealed";
  }
}

export type SealingHost = {
  /** The host's secret; undefined when there is none. Only its beginning is read. */
  readonly secret: Uint8Array | undefined;
  /** Of /etc/machine-id. */
  readonly machineId: string;
  readonly hasTpm: boolean;
};

/** Why this host can never open the credential; undefined when no reason is known. */
export function whyNeverOpened(seal: Seal, host: SealingHost): string | undefined {
  if (seal.includes("tpm2") && !host.hasTpm) return "it is sealed to a TPM, and this host has none";
  if (!seal.includes("host")) return undefined;
  if (host.secret === undefined) return "the host's secret that sealed it is gone";
  const owner = Buffer.from(host.secret.subarray(0, ID_BYTES)).toString("hex");
  return owner === secretOwner(host.machineId)
    ? undefined
    : "the host's secret that sealed it was made under another /etc/machine-id";
}
