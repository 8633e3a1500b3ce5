import { describe, expect, test } from "bun:test";
import { Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from "age-encryption";
import { importIdentity, recipientOf } from "./age-identity.ts";

describe("an age identity imported from bytes", () => {
  test("has the same public half and opens the same files as age's own, and its text is erased", async () => {
    for (let round = 0; round < 20; round++) {
      const identity = await generateX25519Identity();
      const text = Buffer.from(`  ${identity}\n`);
      const key = await importIdentity(text);
      if (key === undefined) throw new Error("not imported");
      expect(text.every((byte) => byte === 0)).toBe(true);
      expect(key.extractable).toBe(false);
      const recipient = await identityToRecipient(identity);
      expect(await identityToRecipient(key)).toBe(recipient);
      expect(await recipientOf(key)).toBe(recipient);
      const encrypter = new Encrypter();
      encrypter.addRecipient(recipient);
      const decrypter = new Decrypter();
      decrypter.addIdentity(key);
      expect(await decrypter.decrypt(await encrypter.encrypt("secret"), "text")).toBe("secret");
    }
  });

  test("is refused with any one character changed, missing or added", async () => {
    const identity = await generateX25519Identity();
    const broken = [identity.slice(0, -1), `${identity}Q`, identity.toLowerCase(), "", "AGE-SECRET-KEY-1"];
    for (let at = 0; at < identity.length; at++)
      for (const other of ["Q", "P"])
        if (identity[at] !== other) broken.push(identity.slice(0, at) + other + identity.slice(at + 1));
    for (const text of broken) expect(await importIdentity(Buffer.from(text))).toBeUndefined();
  });
});
