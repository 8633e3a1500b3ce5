import { describe, expect, test } from "bun:test";
import { processLimits, resourceLimits } from "./resource-limits.ts";

const GIB = 2 ** 30;

describe("a sandbox's limits", () => {
  test("leave half of the host to other programs when the template sets none, or 0", () => {
    const limits = { memoryBytes: 4 * GIB, pids: 4_096, cpuWeight: 100, tmpfsBytes: 2 * GIB };
    expect(resourceLimits(undefined, 8 * GIB)).toMatchObject(limits);
    const zeros = { memory_limit_mb: 0, pids_limit: 0, cpu_shares: 0 };
    expect(resourceLimits(zeros, 8 * GIB)).toMatchObject(limits);
  });

  test("are enough to start a program on the smallest host", () => {
    expect(resourceLimits({}, GIB / 8).memoryBytes).toBe(GIB / 4);
  });

  test("match the template, in terms of cgroup v2", () => {
    const said = { memory_limit_mb: 512, pids_limit: 20, cpu_shares: 2_048 };
    expect(resourceLimits(said, 8 * GIB)).toMatchObject({
      memoryBytes: GIB / 2,
      pids: 20,
      cpuWeight: 200,
      tmpfsBytes: GIB / 4,
    });
    for (const [shares, weight] of [
      [1, 1],
      [1_024, 100],
      [262_144, 10_000],
    ] as const)
      expect(resourceLimits({ cpu_shares: shares }, GIB).cpuWeight).toBe(weight);
  });

  test("count bubblewrap's own processes beside the program's, and allow no core dump", () => {
    const limits = processLimits(resourceLimits({ pids_limit: 20 }, GIB));
    expect(limits).toContainEqual({ resource: "nproc", most: 24 });
    expect(limits).toContainEqual({ resource: "core", most: 0 });
  });
});
