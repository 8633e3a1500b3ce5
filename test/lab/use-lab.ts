/** One lab for a whole test file: opened before its first test, closed after its last. */
import { afterAll, beforeAll } from "bun:test";
import { type Lab, openLab } from "./lab.ts";

/** Making an image, on a slow mirror. Booting takes seconds. */
const OPEN_MS_MAX = 20 * 60_000;
const CLOSE_MS_MAX = 60_000;

/**
 * Registers the hooks; `prepare` boots the machines of the file. The returned function gives the lab inside
 * tests.
 */
export function useLab(prepare: (lab: Lab) => Promise<void> = async () => {}): () => Lab {
  let opened: Lab | undefined;
  beforeAll(async () => {
    opened = await openLab({ say: (line) => console.error(line) });
    await prepare(opened);
  }, OPEN_MS_MAX);
  afterAll(async () => {
    await opened?.[Symbol.asyncDispose]();
  }, CLOSE_MS_MAX);
  return () => {
    if (opened === undefined) throw new Error("this lab is not open");
    return opened;
  };
}
