/** The flags for joining a fleet. The launcher passes them to first boot. */
import { BureauError } from "@bureau/kit/errors";

export const joinFlags = {
  "bootstrap-file": { type: "string" },
  "registration-token-file": { type: "string" },
} as const;

export type JoinSource = {
  /** `-` is standard input. */
  readonly bootstrapFile: string | undefined;
  readonly registrationTokenFile: string | undefined;
};

/** @throws BureauError `invalid-input` when both are given */
export function joinSourceOf(
  values: Readonly<Partial<Record<keyof typeof joinFlags, string | undefined>>>,
): JoinSource {
  const bootstrapFile = values["bootstrap-file"];
  const registrationTokenFile = values["registration-token-file"];
  if (bootstrapFile !== undefined && registrationTokenFile !== undefined)
    throw new BureauError(
      "invalid-input",
      "--bootstrap-file and --registration-token-file exclude each other",
    );
  return { bootstrapFile, registrationTokenFile };
}

export const joinArguments = ({ bootstrapFile, registrationTokenFile }: JoinSource): string[] => [
  ...(bootstrapFile === undefined ? [] : ["--bootstrap-file", bootstrapFile]),
  ...(registrationTokenFile === undefined ? [] : ["--registration-token-file", registrationTokenFile]),
];
