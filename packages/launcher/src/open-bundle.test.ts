import { expect, test } from "bun:test";
import { openBundle } from "./proxy-start.ts";

/** Opens "ciphertexts" that are their plaintexts. */
const key = { unseal: async (text: string) => JSON.parse(text) };
const bundle = JSON.stringify({ MATRIX_TOKEN: "t", A: "1", B: "2" });
const open = (keys: Record<string, string>) =>
  openBundle(key, { encrypted_credentials: bundle, credential_keys: keys });

test("single keys replace, add and remove keys of the bundle", async () => {
  expect(await open({ A: '{"A":"new"}', B: "", C: '{"C":"3"}' })).toEqual({
    MATRIX_TOKEN: "t",
    A: "new",
    C: "3",
  });
});

test("a ciphertext under the name of another key is refused, without its value in the error", async () => {
  for (const sealed of ['{"B":"canary"}', '{"A":"canary","B":"canary"}', "{}"]) {
    const opened = open({ A: sealed });
    await expect(opened).rejects.toThrow('The sealed credential "A" holds other keys');
    await opened.catch((error: unknown) => expect(String(error)).not.toContain("canary"));
  }
});

test("no keys are opened without a bundle, and none without a Matrix token", async () => {
  expect(await openBundle(key, { credential_keys: { A: '{"A":"1"}' } })).toEqual({});
  await expect(open({ MATRIX_TOKEN: "" })).rejects.toThrow("no MATRIX_TOKEN");
});
