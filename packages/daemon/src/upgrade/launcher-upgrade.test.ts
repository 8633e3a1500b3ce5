/** The launcher of a build that is rolled back is always replaced. */
import { expect, test } from "bun:test";
import type { Clock } from "@bureau/kit/clock";
import { BureauError } from "@bureau/kit/errors";
import { holdProcess } from "@bureau/os/posix";
import { silentLog } from "@bureau/os/testing/silent-log";
import type { Launcher } from "../launcher/launcher-client.ts";
import { LauncherUpgrade } from "./launcher-upgrade.ts";
import { upgradeTimes } from "./upgrade-times.ts";

const [OLD, NEW] = ["/env/old", "/env/new"];
type Manner = "goes" | "stays" | "hangs" | "refuses" | "cannot";

/** A launcher of the new build, as a real process. After it ends, the old one answers. */
async function takeBack(manner: Manner): Promise<{ isAlive: boolean; answers: string }> {
  const child = Bun.spawn(["sleep", "60"]);
  let isOld = false;
  let isAsked = false;
  const launcher: Launcher = {
    call: async (action) => {
      if (child.killed || child.signalCode !== null) isOld = true;
      if (action === "exec-update") {
        if (manner === "refuses") throw new BureauError("conflict", "not now");
        isAsked = true;
        isOld ||= manner === "goes";
        return {} as never;
      }
      if (manner === "hangs" && isAsked && !isOld) throw new BureauError("timeout", "no answer");
      const fault = manner === "cannot" && isAsked && !isOld ? { exec_fault: "ENOSPC" } : {};
      return { pid: child.pid, programs_dir: isOld ? OLD : NEW, ...fault } as never;
    },
  };
  let now = 0;
  const clock: Clock = {
    now: () => now,
    monotonic: () => now,
    sleep: async (ms) => {
      now += ms;
      await Bun.sleep(1);
    },
  };
  const upgrade = new LauncherUpgrade({
    launcher,
    clock,
    log: silentLog,
    times: upgradeTimes("{}"),
    sandboxes: () => [],
    hold: holdProcess,
  });
  await upgrade.takeBack(NEW, OLD, "r1");
  const isAlive = child.exitCode === null && child.signalCode === null;
  child.kill("SIGKILL");
  await child.exited;
  return { isAlive, answers: upgrade.seen?.programs_dir ?? "no launcher" };
}

test("does not kill a launcher that rolls back on request", async () => {
  expect(await takeBack("goes")).toEqual({ isAlive: true, answers: OLD });
});

test.each(["stays", "hangs", "refuses", "cannot"] as const)(
  "kills a launcher that %s, and another answers",
  async (manner) => {
    expect(await takeBack(manner)).toEqual({ isAlive: false, answers: OLD });
  },
);
