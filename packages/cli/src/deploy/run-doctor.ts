/**
 * Runs `bureau machine doctor --fix` on the host, which makes it a machine. The bootstrap file, which holds a one-time
 * password, is passed on standard input only. For each failing check, the error has what doctor found, expected and advises.
 */
import { BureauError } from "@bureau/kit/errors";
import * as v from "valibot";
import { harmless, quote } from "../remote/host-shell.ts";
import type { Root } from "./privilege.ts";

/** Packages to install, keys to make, units to start, first boot with its own two minutes. */
const DOCTOR_MS_MAX = 900_000;
const SHOWN_MAX = 12;

const text = v.pipe(v.nullish(v.string(), ""), v.transform(harmless));
const CheckSchema = v.object({
  id: text,
  group: text,
  status: v.string(),
  found: text,
  expected: text,
  fix: text,
});
const ReportSchema = v.object({
  checks: v.array(CheckSchema),
  changes: v.optional(v.array(v.unknown()), []),
  /** The errors of repairs. */
  errors: v.optional(v.array(v.object({ id: text, what: text })), []),
});
const FailureSchema = v.object({ error: text, hint: text });

export type DoctorReport = v.InferOutput<typeof ReportSchema>;

export type DoctorOptions = {
  readonly root: Root;
  readonly hostName: string;
  /** The folder of the build there that is run, and that becomes the installed one. */
  readonly build: string;
  /** `--flag value` pairs with the identity of the machine. */
  readonly flags: readonly string[];
  /** The bootstrap file's text; undefined when the machine has joined already. */
  readonly bootstrap: string | undefined;
  readonly onLine: (line: string) => void;
};

/** @throws BureauError with every check that still fails */
export async function runDoctor(options: DoctorOptions): Promise<DoctorReport> {
  const { root, hostName, build, flags, bootstrap } = options;
  const argv = [
    `${build}/bin/bureau`,
    ...["machine", "doctor", "--fix", "--system", ...flags],
    ...(bootstrap === undefined ? [] : ["--bootstrap-file", "-"]),
    "--json",
  ];
  const ran = await root.run(argv, {
    stdin: bootstrap ?? "",
    timeoutMs: DOCTOR_MS_MAX,
    onLine: (line) => options.onLine(harmless(line)),
  });
  const output = jsonOf(ran.stdout);
  const report = v.safeParse(ReportSchema, output);
  if (!report.success) {
    const failure = v.safeParse(FailureSchema, output);
    const said = failure.success && failure.output.error !== "" ? `: ${failure.output.error}` : quote(ran);
    throw new BureauError("failed", `Doctor failed on ${hostName} with exit code ${ran.code}${said}`, {
      ...(failure.success && failure.output.hint !== "" ? { hint: failure.output.hint } : {}),
    });
  }
  const bad = report.output.checks.filter(({ status }) => status === "fail");
  if (ran.code === 0 && bad.length === 0) return report.output;
  throw stillFailing(hostName, ran, bad, report.output.errors);
}

function stillFailing(
  hostName: string,
  ran: { readonly code: number; readonly stderr: string },
  bad: DoctorReport["checks"],
  errors: DoctorReport["errors"],
): BureauError {
  if (bad.length === 0)
    return new BureauError("failed", `Doctor ended with exit code ${ran.code} on ${hostName}${quote(ran)}`);
  const lines = bad
    .slice(0, SHOWN_MAX)
    .flatMap(({ id, found, expected, fix }) => [
      `  ${id}: ${found}${expected === "" ? "" : `; expected: ${expected}`}`,
      ...errors.filter((error) => error.id === id).map(({ what }) => `    ${what}`),
      ...(fix === "" ? [] : [`    → ${fix}`]),
    ]);
  const more = bad.length > SHOWN_MAX ? [`  … and ${bad.length - SHOWN_MAX} more`] : [];
  const count = bad.length === 1 ? "One check still fails" : `${bad.length} checks still fail`;
  return new BureauError("failed", `${count} on ${hostName}:\n${[...lines, ...more].join("\n")}`, {
    hint: "fix these problems, then deploy again",
  });
}

/** The JSON that a command printed. Ignores text that a login printed before it. */
function jsonOf(stdout: string): unknown {
  const start = /^\{/mu.exec(stdout)?.index ?? 0;
  try {
    return JSON.parse(stdout.slice(start));
  } catch {
    return undefined;
  }
}
