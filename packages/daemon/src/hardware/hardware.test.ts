import { expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { systemClock } from "@bureau/kit/clock";
import { readIfPresent } from "@bureau/os/durable-file";
import { argumentsOf } from "@bureau/os/process-table";
import { MachineInfoSchema } from "@bureau/schema/events";
import { parse } from "@bureau/schema/parse";
import { parsePrincipalName, parseUserId } from "@bureau/schema/refs";
import { eventually } from "@bureau/testkit/use-bureau";
import { readHardware } from "./machine-info.ts";
import { UsageMeter } from "./usage.ts";

test("this machine's facts match the event's schema", () => {
  const facts = readHardware();
  const principal = parseUserId("@m:s");
  parse(MachineInfoSchema, { principal, daemon_version: "1", ...facts }, "machine_info");
  expect(facts.memory_total_mb).toBeGreaterThan(0);
  const { sockets, cores_per_socket, threads_per_core } = facts.cpu;
  expect(sockets * cores_per_socket * threads_per_core).toBeGreaterThan(0);
});

test("sockets, cores, threads, nodes and graphics cards are counted from the files that list them", () => {
  const root = mkdtempSync("/tmp/bh-");
  const write = (path: string, content: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), `${content}\n`);
  };
  write("proc/meminfo", "MemTotal: 16777216 kB\nSwapTotal: 2048 kB");
  write("sys/class/dmi/id/board_name", "X99");
  for (let cpu = 0; cpu < 8; cpu++) {
    write(`sys/devices/system/cpu/cpu${cpu}/topology/physical_package_id`, String(cpu < 4 ? 0 : 1));
    write(`sys/devices/system/cpu/cpu${cpu}/topology/core_id`, String(cpu % 2));
  }
  write("sys/devices/system/cpu/cpu0/cache/index3/size", "8192K");
  write("sys/devices/system/node/node0/x", "");
  write("sys/devices/system/node/node1/x", "");
  write("sys/bus/pci/0000:03:00.0/vendor", "0x1002");
  write("sys/bus/pci/0000:03:00.0/device", "0x744c");
  write("sys/bus/pci/0000:03:00.0/mem_info_vram_total", "25753026560");
  mkdirSync(join(root, "sys/class/drm/card0"), { recursive: true });
  symlinkSync("../../../bus/pci/0000:03:00.0", join(root, "sys/class/drm/card0/device"));
  symlinkSync("/drivers/amdgpu", join(root, "sys/bus/pci/0000:03:00.0/driver"));
  expect(readHardware(root)).toMatchObject({
    board_name: "X99",
    memory_total_mb: 16_384,
    swap_total_mb: 2,
    numa_nodes: 2,
    cpu: { sockets: 2, cores_per_socket: 2, threads_per_core: 2, l3_cache_kb: 8_192 },
    gpus: [
      {
        vendor: "AMD",
        pci_device_id: "0x744c",
        pci_slot: "0000:03:00.0",
        vram_total_bytes: 25_753_026_560,
        driver: "amdgpu",
      },
    ],
  });
  rmSync(root, { recursive: true });
});

/** The process waits for input once it has started. */
const isAsleep = (pid: number): boolean => /^State:\s+S/m.test(readIfPresent(`/proc/${pid}/status`) ?? "");

test("a principal is starting at first, then busy or idle by its processes' CPU time", async () => {
  const spin = Bun.spawn(["/bin/sh", "-c", "while :; do :; done"]);
  const sleep = Bun.spawn(["/bin/sleep", "60"]);
  const sandbox = (name: string, pid: number) => ({
    principal: parsePrincipalName(name),
    digests: { spec: "s", payload: "p" },
    state: "running" as const,
    pid,
    proxy: { state: "running" as const },
    started_at: 0,
  });
  const both = [sandbox("agent/busy", spin.pid), sandbox("agent/idle", sleep.pid)];
  try {
    // Work of a process before it executes that program counts as the program's.
    await eventually(
      async () => (isAsleep(sleep.pid) && argumentsOf(sleep.pid)[0] === "/bin/sleep") || undefined,
    );
    const meter = new UsageMeter();
    const first = meter.sample(both, systemClock.monotonic());
    expect([...first.principals.values()].map(({ status }) => status)).toEqual(["starting", "starting"]);
    const deadline = Date.now() + 10_000;
    let then = first;
    while (then.principals.get("agent/busy")?.status !== "running" && Date.now() < deadline) {
      await systemClock.sleep(100);
      then = meter.sample(both, systemClock.monotonic());
    }
    expect(then.principals.get("agent/busy")?.status).toBe("running");
    expect(then.principals.get("agent/idle")).toMatchObject({ status: "idle", cpu_percent: 0 });
    expect(then.memoryUsedMb).toBeGreaterThan(0);
    expect(then.uptimeSeconds).toBeGreaterThan(0);
  } finally {
    for (const child of [spin, sleep]) {
      child.kill("SIGKILL");
      await child.exited;
    }
  }
});
