import { expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { whyNotRestored } from "./saved.ts";

test("an undo skips files whose folder or backup is missing", () => {
  const dir = mkdtempSync(join(tmpdir(), "undo-"));
  try {
    const owner = { uid: 0, gid: 0 };
    const [copy, place, linked] = [join(dir, "copy"), join(dir, "place"), join(dir, "linked")];
    const file = (path: string, from = copy) =>
      whyNotRestored({ kind: "file", path, copy: from, mode: 0o644, ...owner });
    const folder = (path: string) => whyNotRestored({ kind: "folder", path, mode: 0o755, ...owner });
    const link = (path: string) => whyNotRestored({ kind: "link", path, target: "/dev/null", ...owner });
    writeFileSync(copy, "old");
    mkdirSync(place);
    symlinkSync(place, linked);

    expect([folder(place), file(join(place, "a")), file(join(linked, "a")), link(copy)]).toEqual(
      Array(4).fill(undefined),
    );
    expect(folder(join(dir, "gone"))).toBe("it is gone");
    expect(folder(linked)).toBe("it is no longer a folder");
    expect(file(join(dir, "gone", "a"))).toBe(`the folder "${join(dir, "gone")}" is gone`);
    expect(link(join(copy, "a"))).toBe(`the folder "${copy}" is gone`);
    expect(file(place)).toBe("a folder has taken its place");
    expect(file(join(place, "a"), join(dir, "no-copy"))).toBe("its copy is gone");
  } finally {
    rmSync(dir, { recursive: true });
  }
});
