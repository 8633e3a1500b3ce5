/** What an upgrade would change on one machine, in lines and as JSON. */
import type { ProgramChange, UpgradePreview } from "@bureau/control/rollouts/upgrade-preview";

const inPlace: Readonly<Record<string, string>> = {
  "bureau-daemon": "replaced in place, same process; no agent is disturbed",
  "bureau-launcher": "replaced in place, same process; sandboxes keep running",
};

function effectOf({ program, effect }: ProgramChange): string {
  switch (effect) {
    case "in-place":
      return inPlace[program] ?? "replaced in place, same process";
    case "new-sandboxes":
      return "used by new sandboxes; running agents keep theirs until they are restarted";
    case "next-start":
      return "used at its next start";
  }
}

export const previewJson = ({ changes, ...preview }: UpgradePreview): object => ({
  ...preview,
  changes:
    changes === "unknown" ? changes : changes.map((change) => ({ ...change, effect: effectOf(change) })),
});

const HASH_CHARS = 12;
const PROGRAM_WIDTH = "bureau-supervisor".length;

export function previewLines({ machine, from, to, changes, principals }: UpgradePreview): string[] {
  const names = principals.length === 0 ? "no principal runs there" : `runs there: ${principals.join(", ")}`;
  return [
    `${machine}: ${from ?? "an unknown build"} → ${to}`,
    ...changeLines(changes),
    `  ${names}; no principal is restarted`,
  ];
}

function changeLines(changes: UpgradePreview["changes"]): string[] {
  if (changes === "unknown")
    return ["  the changes are not known from here; the machine compares programs and runtime itself"];
  if (changes.length === 0) return ["  nothing changes: it runs these programs already"];
  return changes.map((change) => {
    const [from, to] = [change.from, change.to].map((hash) => hash.slice(0, HASH_CHARS));
    return `  ${change.program.padEnd(PROGRAM_WIDTH)} ${from} → ${to}  ${effectOf(change)}`;
  });
}
