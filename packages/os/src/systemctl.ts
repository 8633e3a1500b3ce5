/** The state of units, from systemd; queries need no privilege. */
import { BureauError } from "@bureau/kit/errors";

export type UnitState = {
  /** `active`, `activating`, `inactive`, `failed`; `unknown` where systemd does not answer. */
  readonly active: string;
  readonly sub: string;
  readonly pid: number | undefined;
  readonly restarts: number;
  /** Its main process's last exit status. */
  readonly exitStatus: number;
  /** How it last ended: `success`, `exit-code`, `signal`… */
  readonly result: string;
  /** `loaded`, `not-found`, `masked`, `bad-setting`… */
  readonly load: string;
  /** `enabled`, `disabled`, `masked`…; empty when it is not installed. */
  readonly enablement: string;
  /** Files that add to its own. */
  readonly dropIns: readonly string[];
  /** Its file was changed since systemd read it. */
  readonly needsReload: boolean;
};

/** A template unit has no state of its own. */
export const isTemplate = (unit: string): boolean => unit.includes("@.");

/** A query takes a second at most while systemd starts the machine. */
const ASK_MS_MAX = 10_000;

const properties =
  "Id,ActiveState,SubState,MainPID,NRestarts,ExecMainStatus,Result,LoadState,UnitFileState,DropInPaths,NeedDaemonReload";

/**
 * The state of each requested unit, by name; none for templates. @throws BureauError `unsupported` where there is no
 * systemctl
 */
export async function unitStates(names: readonly string[]): Promise<Map<string, UnitState>> {
  const asked = names.filter((name) => !isTemplate(name));
  const child = spawn(["systemctl", "show", `--property=${properties}`, "--", ...asked]);
  const [text] = await Promise.all([new Response(child.stdout).text(), child.exited]);
  const found = new Map<string, UnitState>();
  for (const block of text.split("\n\n")) {
    const values = new Map(
      block.split("\n").map((line) => {
        const equals = line.indexOf("=");
        return [line.slice(0, equals), line.slice(equals + 1)];
      }),
    );
    const id = values.get("Id");
    if (id === undefined) continue;
    const number = (key: string): number => Number(values.get(key) ?? 0) || 0;
    found.set(id, {
      active: values.get("ActiveState") ?? "unknown",
      sub: values.get("SubState") ?? "unknown",
      pid: number("MainPID") || undefined,
      restarts: number("NRestarts"),
      exitStatus: number("ExecMainStatus"),
      result: values.get("Result") ?? "",
      load: values.get("LoadState") ?? "",
      enablement: values.get("UnitFileState") ?? "",
      dropIns: (values.get("DropInPaths") ?? "").split(" ").filter((path) => path !== ""),
      needsReload: values.get("NeedDaemonReload") === "yes",
    });
  }
  return found;
}

function spawn(command: string[]) {
  try {
    return Bun.spawn(command, {
      cwd: "/",
      stdin: "ignore",
      stdout: "pipe",
      stderr: "ignore",
      timeout: ASK_MS_MAX,
    });
  } catch (error) {
    throw new BureauError("unsupported", "Cannot run systemctl", { cause: error });
  }
}
