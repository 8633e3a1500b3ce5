import { expect, test } from "bun:test";
import { hasFilterOfItsOwn, layersOf, parseStatus } from "./layers.ts";

const status = (text: string) => parseStatus(text);

test("does not count a filter from outside as the sandbox's", () => {
  const free = status("Name:\tsh\nSeccomp:\t0\nSeccomp_filters:\t0\n");
  const one = status("Seccomp:\t2\nSeccomp_filters:\t1\n");
  const two = status("Seccomp:\t2\nSeccomp_filters:\t2\n");
  expect(hasFilterOfItsOwn(one, free)).toBe(true);
  expect(hasFilterOfItsOwn(two, one)).toBe(true);
  expect(hasFilterOfItsOwn(one, one)).toBe(false);
  expect(hasFilterOfItsOwn(free, free)).toBe(false);
});

test("without a kernel's filter count, a filter counts only if there was none outside", () => {
  const [none, filtered] = [status("Seccomp:\t0\n"), status("Seccomp:\t2\n")];
  expect(hasFilterOfItsOwn(filtered, none)).toBe(true);
  expect(hasFilterOfItsOwn(filtered, filtered)).toBe(false);
});

test("no layer holds for an unreadable process, or for a process of the host", () => {
  const gone = 2 ** 22 + 1;
  expect(Object.values(layersOf(gone, process.pid, [])).some((holds) => holds)).toBe(false);
  const host = layersOf(process.pid, process.pid, ["/proc/keys"]);
  expect(host).toMatchObject({ seccomp: false, user_namespace: false, network_namespace: false });
  expect(host.keys_hidden).toBe(false);
});
