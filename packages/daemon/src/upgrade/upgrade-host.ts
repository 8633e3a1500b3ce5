/** What an upgrade reads and changes on its host: builds, the boot link, the state file and the watchdog record. */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import type { Log } from "@bureau/kit/log";
import { type Build, leadsTo, moveBootLink, readBuild } from "@bureau/os/build";
import { type Layout, upgradeStateFile } from "@bureau/os/layout";
import { type HeldProcess, holdProcess } from "@bureau/os/posix";
import { formatsIn } from "@bureau/os/state-format";
import {
  bootId,
  clearWatchdogRecord,
  readWatchdogRecord,
  takeWentBack,
  type WatchdogRecord,
  writeWatchdogRecord,
} from "@bureau/os/watchdog-record";
import { type FetchOptions, hasStorePaths, keepStorePaths } from "./nix-store.ts";
import { checkEnvironment, prefetch } from "./prepare.ts";
import { readUpgradeState, type UpgradeState, writeUpgradeState } from "./upgrade-state.ts";

export type UpgradeHost = {
  /** The id of the host's current boot. */
  readonly bootId: string;
  readState(): UpgradeState;
  writeState(state: UpgradeState): void;
  /** As the previous program left it, or passed it on. */
  readRecord(nowMs: number): WatchdogRecord | undefined;
  writeRecord(record: WatchdogRecord): void;
  clearRecord(): void;
  isBootedFrom(path: string): boolean;
  moveBootLink(path: string): void;
  readBuild(path: string): Build;
  /** Ensures that the build is on this host. Returns its real path. @throws BureauError; then nothing was changed */
  fetchBuild(path: string, options: Omit<FetchOptions, "bootLink">): Promise<string>;
  /** @throws BureauError that names the fault */
  checkBuild(path: string, asked: string, running: Build): Promise<Build>;
  needsKeeping(paths: readonly string[]): boolean;
  /** `isComplete`: no other path is needed. */
  keepBuilds(paths: readonly string[], isComplete: boolean): Promise<void>;
  /** A handle on a process, to end it later. */
  hold(pid: number): HeldProcess | undefined;
};

export function openUpgradeHost(layout: Layout, bootLink: string, log: Log): UpgradeHost {
  return {
    bootId: bootId(),
    readState: () => readUpgradeState(upgradeStateFile(layout), log),
    writeState: (state) => writeUpgradeState(upgradeStateFile(layout), state),
    readRecord: (nowMs) => takeWentBack(readWatchdogRecord(layout, "daemon", nowMs)),
    writeRecord: (record) => writeWatchdogRecord(layout, record),
    clearRecord: () => clearWatchdogRecord(layout, "daemon"),
    isBootedFrom: (path) => leadsTo(bootLink, path),
    moveBootLink(path) {
      mkdirSync(dirname(bootLink), { recursive: true });
      moveBootLink(bootLink, path);
    },
    readBuild: readBuild,
    fetchBuild: (path, options) => prefetch(path, { ...options, bootLink }),
    checkBuild(path, asked, running) {
      const formats = [...formatsIn(layout.stateDir), ...formatsIn(layout.runDir)];
      return checkEnvironment(path, { asked, running, formats, layout });
    },
    needsKeeping: (paths) => hasStorePaths(bootLink, paths),
    keepBuilds: (wanted, isComplete) => keepStorePaths({ bootLink, log, wanted, isComplete }),
    hold: holdProcess,
  };
}
