import { expect, test } from "bun:test";
import { isInStore, isStorePath } from "./nix-store-path.ts";

const path = `/nix/store/${"0a".repeat(16)}-bureau-host-env`;

test("a store path is a hash and a name right below the store", () => {
  for (const good of [path, `${path}-1.2+rc?=_`]) {
    expect(isStorePath(good)).toBe(true);
    expect(isInStore(good)).toBe(true);
  }
});

test("what lies within a store path is in the store, and no store path itself", () => {
  for (const within of [`${path}/`, `${path}/share/bureau`]) {
    expect(isStorePath(within)).toBe(false);
    expect(isInStore(within)).toBe(true);
  }
});

test("what only looks like a store path is neither", () => {
  for (const other of [
    "",
    "/nix/store",
    "/nix/store/",
    "/nix/store/bureau",
    "/nix/store/../../etc",
    "/nix/store/.links/x",
    `/nix/store/${"a".repeat(31)}-name`,
    `/nix/store/${"a".repeat(33)}-name`,
    `/nix/store/${"A".repeat(32)}-name`,
    `/nix/store/${"a".repeat(32)}`,
    `/nix/store/${"a".repeat(32)}-`,
    `${path} x`,
    `${path}\n`,
    `/srv${path}`,
    path.slice(1),
  ]) {
    expect(isStorePath(other)).toBe(false);
    expect(isInStore(other)).toBe(false);
  }
});
