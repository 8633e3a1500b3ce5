/** What this machine is made of, from /proc and /sys (wire facts, section 3.2). What cannot be read is left out. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { cpus, hostname, release } from "node:os";
import { basename, join } from "node:path";
import type { MachineInfo } from "@bureau/schema/events";

export type HardwareFacts = Omit<MachineInfo, "principal" | "labels" | "daemon_version">;

/** Reads the facts; they change with a reboot at most. `root` is `/` but in tests. */
export function readHardware(root = "/"): HardwareFacts {
  const memory = readMeminfo(root);
  const vendor = text(join(root, "sys/class/dmi/id/sys_vendor"));
  const board = text(join(root, "sys/class/dmi/id/board_name"));
  const nodes = entries(join(root, "sys/devices/system/node")).filter((name) => /^node\d+$/.test(name));
  const gpus = readGpus(root);
  const swap = Math.floor((memory.get("SwapTotal") ?? 0) / 1024);
  return {
    hostname: hostname(),
    kernel_version: release(),
    ...(vendor === undefined ? {} : { board_vendor: vendor }),
    ...(board === undefined ? {} : { board_name: board }),
    cpu: readCpu(root),
    memory_total_mb: Math.floor((memory.get("MemTotal") ?? 0) / 1024),
    ...(swap > 0 ? { swap_total_mb: swap } : {}),
    ...(nodes.length > 0 ? { numa_nodes: nodes.length } : {}),
    ...(gpus.length > 0 ? { gpus } : {}),
  };
}

/** Fields of /proc/meminfo, in kB. */
export function readMeminfo(root = "/"): Map<string, number> {
  const lines = (text(join(root, "proc/meminfo")) ?? "").split("\n");
  return new Map(
    lines.flatMap((line) => {
      const match = /^(\w+):\s+(\d+)/.exec(line);
      return match?.[1] === undefined ? [] : [[match[1], Number(match[2])] as const];
    }),
  );
}

/** Sockets and cores are counted from the topology of every processor; one of each where it does not say. */
function readCpu(root: string): MachineInfo["cpu"] {
  const base = join(root, "sys/devices/system/cpu");
  const processors = entries(base).filter((name) => /^cpu\d+$/.test(name));
  const sockets = new Set<string>();
  const cores = new Set<string>();
  for (const name of processors) {
    const socket = text(join(base, name, "topology/physical_package_id")) ?? "0";
    sockets.add(socket);
    cores.add(`${socket}:${text(join(base, name, "topology/core_id")) ?? name}`);
  }
  const coreCount = Math.max(1, cores.size);
  const l3 = /^(\d+)K$/.exec(text(join(base, "cpu0/cache/index3/size")) ?? "")?.[1];
  return {
    model: cpus()[0]?.model.trim() || "unknown",
    sockets: Math.max(1, sockets.size),
    cores_per_socket: Math.max(1, Math.round(coreCount / Math.max(1, sockets.size))),
    threads_per_core: Math.max(1, Math.round(processors.length / coreCount)),
    ...(l3 === undefined ? {} : { l3_cache_kb: Number(l3) }),
  };
}

/** Makers of graphics cards by their PCI vendor ID. */
const gpuVendors: Readonly<Record<string, string>> = {
  "0x1002": "AMD",
  "0x10de": "NVIDIA",
  "0x8086": "Intel",
};

function readGpus(root: string): Record<string, unknown>[] {
  const base = join(root, "sys/class/drm");
  return entries(base)
    .filter((name) => /^card\d+$/.test(name))
    .flatMap((name) => {
      const device = join(base, name, "device");
      const vendor = gpuVendors[text(join(device, "vendor")) ?? ""];
      if (vendor === undefined) return [];
      return [
        {
          vendor,
          pci_device_id: text(join(device, "device")) ?? "",
          pci_slot: linkName(device),
          vram_total_bytes: Number(text(join(device, "mem_info_vram_total")) ?? 0),
          driver: linkName(join(device, "driver")),
        },
      ];
    });
}

function text(path: string): string | undefined {
  try {
    const value = readFileSync(path, "utf8").trim();
    return value === "" ? undefined : value;
  } catch {
    return undefined;
  }
}

const entries = (path: string): string[] => (existsSync(path) ? readdirSync(path) : []);

function linkName(path: string): string {
  try {
    return basename(readlinkSync(path));
  } catch {
    return "";
  }
}
