/**
 * Which folder of a large package may import which. A package is one boundary; inside it these arrows keep a folder from
 * growing into its neighbors unseen. Files directly in `src/` assemble the folders, or are what all of them share. Pure.
 */
import type { Violation } from "../dependency-arrows.ts";
import { isTestOnly, packageOfPath, type SourceGraph } from "./source-graph.ts";

type Folders = Readonly<Record<string, readonly string[]>>;

/** Package → folder → folders it may import. */
const folderArrows: Readonly<Record<string, Folders>> = {
  cli: {
    command: [],
    remote: ["command", "deploy"],
    deploy: ["command", "remote"],
    agent: ["command", "machine"],
    audit: ["command"],
    auth: ["command"],
    bureau: ["command"],
    credential: ["command"],
    debug: ["command"],
    fleet: ["command"],
    machine: ["agent", "command", "deploy", "remote", "rollout"],
    matrix: ["command"],
    rollout: ["command", "machine"],
    service: ["command"],
    template: ["command", "machine"],
  },
  control: {
    audit: ["machines", "rooms"],
    authorization: ["machines", "rooms"],
    credentials: ["machines", "principals", "rooms"],
    machines: ["principals", "rooms"],
    principals: ["credentials", "machines", "rooms", "templates"],
    rollouts: ["machines", "rooms"],
    rooms: ["machines", "templates"],
    services: [],
    templates: ["machines", "rooms"],
  },
  daemon: {
    audit: ["authorization", "launcher"],
    authorization: [],
    hardware: [],
    health: [],
    launcher: [],
    "event-messages": [],
    sync: ["desired"],
    services: ["desired", "launcher"],
    desired: ["authorization", "event-messages", "sync"],
    heartbeat: ["hardware"],
    observe: ["authorization", "launcher"],
    reconcile: ["desired", "event-messages", "health", "launcher", "sync"],
    upgrade: ["assembly", "event-messages", "launcher", "reconcile"],
    assembly: ["desired", "sync", "upgrade"],
    subsystems: [
      ...["assembly", "audit", "authorization", "desired", "event-messages", "hardware", "health"],
      ...["heartbeat", "launcher", "observe", "reconcile", "services", "sync", "upgrade"],
    ],
  },
  homeserver: {
    store: ["rooms"],
    auth: ["http", "rooms", "store"],
    rooms: ["auth", "http", "store"],
    sync: ["auth", "http", "rooms", "store"],
    http: ["auth", "rooms", "store", "sync"],
  },
  host: {
    system: [],
    units: [],
    record: ["system"],
    resources: ["record", "system", "units"],
    checks: ["resources", "system", "units"],
    doctor: ["checks", "record", "resources", "system", "units"],
    uninstall: ["checks", "record", "resources", "system", "units"],
  },
  launcher: {
    terminal: ["limits"],
    limits: ["sandbox"],
    sandbox: ["limits", "terminal"],
  },
};

export function checkFolderArrows(
  graph: SourceGraph,
  arrows: Readonly<Record<string, Folders>> = folderArrows,
): Violation[] {
  return [...graph.values()].flatMap(({ path, imports }) => {
    const name = packageOfPath(path) ?? "";
    const [folders, from] = [arrows[name], folderOf(path)];
    if (folders === undefined || from === undefined || isTestOnly(path)) return [];
    const allowed = folders[from];
    if (allowed === undefined)
      return [`${path}: folder ${name}/${from} has no arrows yet: add it to scripts/check/folder-arrows.ts`];
    return imports.flatMap(({ target, line }) => {
      const to = packageOfPath(target) === name ? folderOf(target) : undefined;
      if (to === undefined || to === from || allowed.includes(to) || !graph.has(target)) return [];
      return [`${path}:${line}: imports ${target}: ${name}/${from} may not import ${name}/${to}`];
    });
  });
}

/** The first folder below `src/`; undefined for a file directly in it. */
const folderOf = (path: string): string | undefined => /\/src\/([^/]+)\//u.exec(path)?.[1];
