/** The check of a file that Bureau writes whole and root owns. */
import { look, octal, textOf } from "../system/look.ts";
import type { HostFile } from "../units/host-files.ts";
import { type Finding, fail, hidden, pass } from "./check.ts";

export function rootFile({ path, text }: HostFile): Finding {
  const seen = look(path);
  const write = { actions: [{ kind: "file", path, text, mode: 0o644 } as const] };
  if (seen.kind === "absent") return fail("missing", write);
  if (seen.kind === "hidden") return hidden("you may not look there");
  if (seen.kind === "folder")
    return fail("a folder is there instead", { hint: `move it away: ls -l ${path}` });
  if (seen.kind !== "file") return fail(`a ${seen.kind} is there instead`, write);
  if (seen.uid !== 0 || seen.gid !== 0 || seen.mode !== 0o644)
    return fail(`uid ${seen.uid}, gid ${seen.gid}, ${octal(seen.mode)}`, write);
  return textOf(path) === text ? pass("as written") : fail("its text was changed", write);
}
