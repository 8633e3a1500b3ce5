import { describe, expect, test } from "bun:test";
import { constants } from "node:os";
import type { SecurityException } from "@bureau/schema/template";
import { INSTRUCTION_BYTES, opcodes } from "./bpf.ts";
import { denyList } from "./deny-list.ts";
import { seccompFilter } from "./seccomp-filter.ts";
import { type Architecture, type SyscallName, syscallNumber, syscallNumbers } from "./syscall-numbers.ts";

const { EPERM, ENOSYS, EAFNOSUPPORT, EPROTONOSUPPORT } = constants.errno;
const ARCHITECTURES: readonly Architecture[] = ["x64", "arm64"];
const AUDIT = { x64: 0xc000_003e, arm64: 0xc000_00b7, i386: 0x4000_0003 };
const ALLOW = 0x7fff_0000;

/** The filter's answer to one call, run over its struct seccomp_data. @returns an errno, or "allowed" */
function answer(
  filter: Uint8Array,
  call: { arch: number; number: number; args?: readonly bigint[] },
): number | "allowed" {
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, call.number, true);
  data.setUint32(4, call.arch, true);
  for (const [index, arg] of (call.args ?? []).entries()) data.setBigUint64(16 + 8 * index, arg, true);
  const code = new DataView(filter.buffer, filter.byteOffset, filter.byteLength);
  let accumulator = 0;
  for (let at = 0; at < filter.byteLength; at += INSTRUCTION_BYTES) {
    const operand = code.getUint32(at + 4, true);
    const jump = (holds: boolean): void => {
      at += code.getUint8(at + (holds ? 2 : 3)) * INSTRUCTION_BYTES;
    };
    const op = code.getUint16(at, true);
    if (op === opcodes.load) accumulator = data.getUint32(operand, true);
    else if (op === opcodes.and) accumulator = (accumulator & operand) >>> 0;
    else if (op === opcodes.jump) at += operand * INSTRUCTION_BYTES;
    else if (op === opcodes["if-equal"]) jump(accumulator === operand);
    else if (op === opcodes["if-at-least"]) jump(accumulator >= operand);
    else if (op === opcodes.return) return operand === ALLOW ? "allowed" : operand & 0xffff;
    else throw new Error(`unknown instruction 0x${op.toString(16)}`);
  }
  throw new Error("the filter ended without an answer");
}

const asked = (
  architecture: Architecture,
  name: SyscallName,
  args: readonly (number | bigint)[] = [],
  exceptions: readonly SecurityException[] = [],
): number | "allowed" =>
  answer(seccompFilter(new Set(exceptions), architecture), {
    arch: AUDIT[architecture],
    number: syscallNumber(name, architecture),
    args: args.map(BigInt),
  });

/** Calls whose answer does not depend on arguments. */
const always: Readonly<Record<number, readonly SyscallName[]>> = {
  [ENOSYS]: [
    ...(["clone3", "open_tree", "open_tree_attr", "move_mount", "fsopen", "fsconfig", "fsmount"] as const),
    ...(["fspick", "mount_setattr", "io_uring_setup", "io_uring_enter", "io_uring_register"] as const),
    ...(["bpf", "userfaultfd", "perf_event_open", "kexec_load", "kexec_file_load"] as const),
  ],
  [EPERM]: [
    ...(["setns", "mount", "umount2", "pivot_root", "keyctl", "add_key", "request_key"] as const),
    ...(["open_by_handle_at", "fanotify_init", "quotactl", "quotactl_fd", "swapon", "swapoff"] as const),
    ...(["acct", "syslog", "reboot", "init_module", "finit_module", "delete_module"] as const),
  ],
};

const NEWUSER = 0x1000_0000;
const [UNIX, INET, INET6, NETLINK, PACKET, ALG, VSOCK] = [1, 2, 10, 16, 17, 38, 40];
/** Calls that depend on arguments: name, arguments, answer. */
const byArguments: readonly (readonly [SyscallName, readonly (number | bigint)[], number | "allowed"])[] = [
  ["clone", [NEWUSER | 17], EPERM],
  ["clone", [0x0100_0000 | 17], "allowed"],
  ["unshare", [NEWUSER], EPERM],
  ["unshare", [NEWUSER | 0x2000_0000], EPERM],
  ["unshare", [0x200], "allowed"],
  ...[UNIX, INET, INET6].flatMap((family) => [["socket", [family, 1, 0], "allowed"] as const]),
  ["socket", [NETLINK, 3, 0], "allowed"],
  ["socket", [NETLINK, 3, 9], EPROTONOSUPPORT],
  ["socket", [NETLINK, 3, 15], EPROTONOSUPPORT],
  ...[0, PACKET, ALG, VSOCK, 31, 29].map((family) => ["socket", [family, 1, 0], EAFNOSUPPORT] as const),
  // The kernel takes an int: higher bits of the argument hide nothing.
  ["socket", [0x1_0000_0000n + BigInt(VSOCK), 1, 0], EAFNOSUPPORT],
  ["socketpair", [UNIX, 1, 0], "allowed"],
  ["socketpair", [VSOCK, 1, 0], EAFNOSUPPORT],
  ["ioctl", [0, 0x5412], EPERM],
  ["ioctl", [0, 0x541c], EPERM],
  ["ioctl", [0, 0x7_0000_5412n], EPERM],
  ["ioctl", [0, 0x7_0000_541cn], EPERM],
  ["ioctl", [0, 0x5413], "allowed"],
];

describe.each(ARCHITECTURES)("the seccomp filter on %s", (architecture) => {
  test("answers each call of the list with its errno, and names every call it has a number for", () => {
    for (const [errno, names] of Object.entries(always))
      for (const name of names) expect([name, asked(architecture, name)]).toEqual([name, Number(errno)]);
    for (const [name, args, expected] of byArguments)
      expect([name, args, asked(architecture, name, args)]).toEqual([name, args, expected]);
    const covered = [...Object.values(always).flat(), ...byArguments.map(([name]) => name)];
    expect([...new Set(covered)].sort()).toEqual(Object.keys(syscallNumbers).sort() as SyscallName[]);
    expect([...new Set(denyList.flatMap(({ syscalls }) => syscalls))].sort()).toEqual(
      Object.keys(syscallNumbers).sort() as SyscallName[],
    );
  });

  test("allows every other call, including new ones", () => {
    const listed = new Set(
      Object.keys(syscallNumbers).map((name) => syscallNumber(name as SyscallName, architecture)),
    );
    const filter = seccompFilter(new Set(), architecture);
    for (let number = 0; number < 1_000; number++)
      if (!listed.has(number))
        expect([number, answer(filter, { arch: AUDIT[architecture], number })]).toEqual([number, "allowed"]);
  });

  test("refuses calls of every other architecture", () => {
    const filter = seccompFilter(new Set(), architecture);
    for (const arch of Object.values(AUDIT).filter((one) => one !== AUDIT[architecture]))
      expect(answer(filter, { arch, number: 1 })).toBe(ENOSYS);
  });

  test("an exception allows only its own calls", () => {
    const lifted: Readonly<
      Record<SecurityException, readonly (readonly [SyscallName, readonly number[]])[]>
    > = {
      nested_userns: [
        ["clone3", []],
        ["clone", [NEWUSER]],
        ["unshare", [NEWUSER]],
        ...(
          ["setns", "mount", "umount2", "pivot_root", "open_tree", "open_tree_attr", "move_mount"] as const
        ).map((name) => [name, []] as const),
        ...(["fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"] as const).map(
          (name) => [name, []] as const,
        ),
      ],
      perf: [["perf_event_open", []]],
      netlink: [["socket", [NETLINK, 3, 15]]],
    };
    const everything = Object.values(lifted).flat();
    for (const [exception, calls] of Object.entries(lifted))
      for (const [name, args] of everything)
        expect([
          exception,
          name,
          asked(architecture, name, args, [exception as SecurityException]) === "allowed",
        ]).toEqual([
          exception,
          name,
          calls.some((one) => one[0] === name && String(one[1]) === String(args)),
        ]);
  });
});

describe("the seccomp filter", () => {
  test("refuses the x32 numbers of x86-64", () => {
    const filter = seccompFilter(new Set(), "x64");
    for (const number of [0x4000_0000, 0x4000_0000 + syscallNumber("keyctl", "x64"), 0xffff_ffff])
      expect(answer(filter, { arch: AUDIT.x64, number })).toBe(ENOSYS);
  });

  test("is made once for the same exceptions, in any order", () => {
    const filter = seccompFilter(new Set<SecurityException>(["perf", "netlink"]), "x64");
    expect(seccompFilter(new Set<SecurityException>(["netlink", "perf"]), "x64")).toBe(filter);
    expect(seccompFilter(new Set<SecurityException>(["netlink", "perf"]), "arm64")).not.toBe(filter);
  });

  test("does not exist for an architecture without a table", () => {
    expect(() => seccompFilter(new Set(), "riscv64")).toThrow('architecture "riscv64"');
  });

  test.skipIf(Bun.which("scmp_sys_resolver") === null)("has the numbers that libseccomp has", () => {
    for (const [index, arch] of (["x86_64", "aarch64"] as const).entries()) {
      for (const [name, numbers] of Object.entries(syscallNumbers)) {
        const known = Number(Bun.spawnSync(["scmp_sys_resolver", "-a", arch, name]).stdout.toString().trim());
        // -1: a call that is newer than this libseccomp.
        if (known !== -1) expect<unknown>([name, arch, numbers[index]]).toEqual([name, arch, known]);
      }
    }
  });
});
