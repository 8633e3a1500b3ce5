/** Describes how a program ended, and keeps its last output. */
import { mkdirSync } from "node:fs";
import { constants } from "node:os";
import { dirname } from "node:path";
import type { Clock } from "@bureau/kit/clock";
import { readIfPresent, writeAtomically } from "@bureau/os/durable-file";
import { type Layout, lastOutputFile, tmuxSession } from "@bureau/os/layout";
import type { SandboxExit } from "@bureau/schema/launcher-ipc";
import type { PrincipalName } from "@bureau/schema/refs";
import { pathsOf, type SandboxHost } from "./sandbox-host.ts";

/** Lines of terminal output that are recorded with an exit (section 12.2). */
const OUTPUT_LINES_MAX = 500;
/** Bytes of it: an exit must fit into an event, and many into one response. */
const OUTPUT_BYTES_MAX = 16 * 1024;
/** Bytes kept of a last screen. */
const LAST_SCREEN_BYTES_MAX = 1024 * 1024;
/** Lines kept of a last screen. */
const LAST_SCREEN_LINES_MAX = 5_000;
/** Output may reach the screen a moment after the program ended (section 12.2: 10 × 50 ms). */
const SCREEN_MS_MAX = 500;

/** `exited with 3`, `killed by SIGKILL`: a shell reports signal n as 128+n. */
export function describeExit(code: number): string {
  const signal = Object.entries(constants.signals).find(([, number]) => number === code - 128)?.[0];
  return signal === undefined ? `exited with ${code}` : `killed by ${signal}`;
}

export const exitOf = (code: number, clock: Clock): SandboxExit => ({
  code,
  description: describeExit(code),
  at: clock.now(),
});

export const lostExit = (why: string, clock: Clock): SandboxExit => ({
  code: -1,
  description: `lost: ${why}`,
  at: clock.now(),
});

/**
 * The screen of an ended program; waits until its whole output is there. Never throws: an unreadable terminal must not
 * prevent the end of a sandbox.
 */
export async function finalScreen(
  { config, tmux, clock, log }: Pick<SandboxHost, "config" | "tmux" | "clock" | "log">,
  principal: PrincipalName,
): Promise<string | undefined> {
  try {
    const session = tmuxSession(principal);
    const deadline = clock.monotonic() + SCREEN_MS_MAX;
    for (let waitMs = 1; ; waitMs *= 1.5) {
      const whole = await tmux.hasWholeOutput(session);
      if (whole === undefined) return undefined;
      if (whole || clock.monotonic() >= deadline)
        return await tmux.captureThrough(
          pathsOf({ config }, principal).screen,
          session,
          LAST_SCREEN_LINES_MAX,
        );
      await clock.sleep(waitMs);
    }
  } catch (error) {
    log.warn("sandbox.output-unreadable", "cannot read the last output of a program", { principal, error });
    return undefined;
  }
}

/** The end of a screen: the output that is recorded with an exit. */
export const exitOutputOf = (screen: string): string =>
  tail(screen.split("\n").slice(-OUTPUT_LINES_MAX).join("\n"), OUTPUT_BYTES_MAX);

/** The last `bytesMax` bytes of a text, from the start of a line. */
export function tail(text: string, bytesMax: number): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= bytesMax) return text;
  const cut = bytes.subarray(bytes.length - bytesMax);
  const newline = cut.indexOf(10);
  return cut.subarray(newline < 0 ? 0 : newline + 1).toString();
}

/** Never throws: a full disk must not prevent the end of a sandbox or its proxy. */
export function saveLastScreen(
  { config: { layout }, log }: Pick<SandboxHost, "config" | "log">,
  principal: PrincipalName,
  screen: string,
): void {
  const path = lastOutputFile(layout, principal);
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeAtomically(path, tail(screen, LAST_SCREEN_BYTES_MAX), 0o600);
  } catch (error) {
    log.warn("sandbox.output-unwritten", "cannot save the last output of a program", { principal, error });
  }
}

export const readLastScreen = (layout: Layout, principal: PrincipalName): string | undefined =>
  readIfPresent(lastOutputFile(layout, principal));
