/**
 * What protects a credential that systemd-creds sealed: the first 16 bytes of the blob name the kind of key (systemd,
 * src/shared/creds-util.h, `CRED_AES256_GCM_BY_*`).
 */

export type Seal = "host" | "tpm2" | "host+tpm2" | "none" | "unknown";

const kinds: Readonly<Record<string, Seal>> = {
  "5a1c6a86df9d4096b1d5a65e0862f19a": "host",
  "0c7cc07b117645919c4b0bea08bc20fe": "tpm2",
  faf7eb9341e3412ca1a436f95a29362f: "tpm2",
  "93a894094874449090caf2fc93cab553": "host+tpm2",
  af4950a849134eb1a73846304ff30c05: "host+tpm2",
  "058469daf6f54324800549da0f8ea2fb": "none",
};

/** `text` is the file's: base64. */
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
      return "sealed with no key at all: anybody can open it";
    case "unknown":
      return "not a credential that systemd-creds sealed";
  }
}
