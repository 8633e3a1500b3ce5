import { describe, expect, test } from "bun:test";
import { sealOf, whyNeverOpened } from "./sealed-key.ts";
import { secretOwner } from "./secret-owner.ts";

/** The word "secret", sealed by systemd-creds 257 with --with-key=host and with --with-key=null. */
const byHost =
  "Whxqht+dQJax1aZeCGLxmiAAAAABAAAADAAAABAAAADGMZqL2Ufsdrzil0MAAAAA1ihkkku23o64jpNPB7RHFu6GjfJ/bhhXlCMBwwTida6cedTOuibILbNiL5rLDeCB7OrfhTBXkw==";
const byNothing =
  "BYRp2vb1QySABUnaD46i+yAAAAABAAAADAAAABAAAADT9KSWKHXwJhJyiloAAAAALJ+kM2LEBmKn6e4LdZPasR6UpzUnqjgRoLg1CkfrNWRuV9WQQ1wfO/nFyeghGO4z9I5Gs88Cnw==";

test("reads the kind of key from the blob, also when it spans lines", () => {
  expect(sealOf(byHost)).toBe("host");
  expect(sealOf(byHost.replace(/(.{60})/g, "$1\n"))).toBe("host");
  expect(sealOf(byNothing)).toBe("none");
});

test("refuses text that is not a sealed credential", () => {
  for (const text of ["", "AGE-SECRET-KEY-1ABC", "c2VjcmV0", "Whxqht+dQJax"])
    expect(sealOf(text)).toBe("unknown");
});

describe("whether a sealed key can still be opened", () => {
  const machineId = "0123456789abcdef0123456789abcdef";
  const secret = Buffer.from(`f65a25a6c02a44888e0e49b6adb6b1f9${"00".repeat(64)}`, "hex");
  const host = { secret, machineId: `${machineId}\n`, hasTpm: false };

  test("depends on the machine id of the host's secret", () => {
    // Output of systemd-id128 machine-id --app-specific=d3acecba0dad4cdfb8c9381528936c58.
    expect(secretOwner(machineId)).toBe("f65a25a6c02a44888e0e49b6adb6b1f9");
    expect(whyNeverOpened("host", host)).toBeUndefined();
    expect(whyNeverOpened("host", { ...host, machineId: machineId.replace("0", "f") })).toContain(
      "another /etc/machine-id",
    );
    expect(whyNeverOpened("host", { ...host, secret: undefined })).toContain("is gone");
  });

  test("is denied without the TPM that sealed it", () => {
    expect(whyNeverOpened("tpm2", host)).toContain("TPM");
    expect(whyNeverOpened("tpm2", { ...host, hasTpm: true, secret: undefined })).toBeUndefined();
    expect(whyNeverOpened("host+tpm2", { ...host, hasTpm: true })).toBeUndefined();
    expect(whyNeverOpened("host+tpm2", { ...host, hasTpm: true, secret: undefined })).toContain("is gone");
  });
});
