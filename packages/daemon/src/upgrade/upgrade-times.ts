/** How long each part of an upgrade may take, in milliseconds. Tests use shorter times. */
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";

const ms = v.optional(v.pipe(v.number(), v.minValue(1)));

const TimesSchema = v.object({
  /** For a new daemon to be in sync, with every sandbox still present. */
  proof: ms,
  /** For a new launcher to answer, with every sandbox still present. */
  launcherProof: ms,
  /** Then no program may fail for this long: a build that crashes after ten seconds has failed. */
  soak: ms,
  /** The same when the daemon does not change. */
  launcherSoak: ms,
  /** For the old daemon to check whether it reaches the homeserver. */
  judge: ms,
  /** Between a new daemon's own deadline and the time when the launcher ends it. */
  margin: ms,
});

/** In total: a build that fails in any way but a hang is rolled back and reported within 30 s. */
const standard = {
  proof: 20_000,
  launcherProof: 10_000,
  soak: 15_000,
  launcherSoak: 12_000,
  judge: 30_000,
  margin: 5_000,
};

export const upgradeTimes = (
  text: string | undefined = process.env["BUREAU_UPGRADE_TIMES"],
): Record<keyof typeof standard, number> => {
  const given = text === undefined ? {} : parseJson(TimesSchema, text, "BUREAU_UPGRADE_TIMES");
  return {
    ...standard,
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
  };
};
export type UpgradeTimes = ReturnType<typeof upgradeTimes>;
