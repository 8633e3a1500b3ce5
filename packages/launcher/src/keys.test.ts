import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Encrypter, generateX25519Identity } from "age-encryption";
import { loadMachineKey, loadOrMakeMachineKey } from "./keys.ts";

const dir = mkdtempSync("/tmp/mk-");
const layoutAt = (name: string) => {
  const stateDir = join(dir, name);
  Bun.spawnSync(["mkdir", "-p", stateDir]);
  return { stateDir, runDir: dir, workspaceRoot: dir, cacheRoot: dir };
};
afterAll(() => rmSync(dir, { recursive: true, force: true }));

async function seal(recipient: string, plaintext: string): Promise<string> {
  const encrypter = new Encrypter();
  encrypter.addRecipient(recipient);
  return Buffer.from(await encrypter.encrypt(plaintext)).toString("base64");
}

describe("the machine's key", () => {
  test("is created once and reused, and a lost public half is written again", async () => {
    const layout = layoutAt("once");
    expect(await loadMachineKey(layout)).toBeUndefined();
    const made = await loadOrMakeMachineKey(layout);
    rmSync(join(layout.stateDir, "machine-key.pub"));
    const again = await loadOrMakeMachineKey(layout);
    expect(again.publicKey).toBe(made.publicKey);
    expect(readFileSync(join(layout.stateDir, "machine-key.pub"), "utf8")).toBe(made.publicKey);
    expect((await loadMachineKey(layout))?.publicKey).toBe(made.publicKey);
  });

  test("opens files that are sealed for it", async () => {
    const key = await loadOrMakeMachineKey(layoutAt("opens"));
    expect(await key.unseal(await seal(key.publicKey, '{"A":"b"}'))).toEqual({ A: "b" });
  });

  test("reports why it cannot open a file, and quotes neither key nor plaintext", async () => {
    const layout = layoutAt("refuses");
    const key = await loadOrMakeMachineKey(layout);
    const other = await loadOrMakeMachineKey(layoutAt("other"));
    await expect(key.unseal(await seal(other.publicKey, "{}"))).rejects.toThrow(
      `not sealed for ${key.publicKey}`,
    );
    for (const plaintext of ["hunter2", '{"hunter2":5}', "[]"]) {
      const message = await key
        .unseal(await seal(key.publicKey, plaintext))
        .catch((error: Error) => error.message);
      expect(message).toBe("The credential bundle is not a JSON object of strings");
    }
    writeFileSync(join(layout.stateDir, "machine-key.txt"), (await generateX25519Identity()).slice(0, -4));
    const message = await loadMachineKey(layout).catch((error: Error) => error.message);
    expect(message).toContain("is not an age X25519 identity");
    expect(message).not.toContain("AGE-SECRET");
  });

  test("shows no password when it is printed", async () => {
    const key = await loadOrMakeMachineKey(layoutAt("prints"));
    const password = key.permanentPassword("bureau/fleet/f/machine/m" as never);
    expect(`${password} ${JSON.stringify({ password })} ${Bun.inspect(password)}`).not.toContain(
      password.reveal(),
    );
  });
});
