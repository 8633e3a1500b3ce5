/**
 * The seccomp filter of a sandbox, as bubblewrap loads it (`--add-seccomp-fd`): the deny list as a program for one
 * architecture. Calls of another architecture, and the x32 numbers of x86-64, would evade the list: they are refused.
 */
import { constants } from "node:os";
import { BureauError } from "@bureau/kit/errors";
import type { SecurityException } from "@bureau/schema/template";
import { assemble, type Instruction } from "./bpf.ts";
import { type Condition, type DenyRule, denyList } from "./deny-list.ts";
import { type Architecture, syscallNumber } from "./syscall-numbers.ts";

/** linux/seccomp.h */
const SECCOMP_RET_ALLOW = 0x7fff_0000;
const SECCOMP_RET_ERRNO = 0x0005_0000;
/** linux/audit.h */
const AUDIT_ARCH: Readonly<Record<Architecture, number>> = { x64: 0xc000_003e, arm64: 0xc000_00b7 };
/** asm/unistd.h: __X32_SYSCALL_BIT */
const X32_NUMBERS = 0x4000_0000;

/** struct seccomp_data (linux/seccomp.h): int nr, u32 arch, u64 instruction_pointer, u64 args[6]; little-endian. */
const NUMBER_OFFSET = 0;
const ARCH_OFFSET = 4;
const lowBitsOf = (argument: number): number => 16 + 8 * argument;

const refuse = (errno: number): Instruction => ({ op: "return", value: SECCOMP_RET_ERRNO | errno });
const loadNumber: Instruction = { op: "load", offset: NUMBER_OFFSET };

/** Filters by what they are made from: a machine needs one or two of them, for every sandbox. */
const made = new Map<string, Uint8Array>();

/** The caller must not change it. @throws BureauError `unsupported` on an architecture without a table of numbers */
export function seccompFilter(
  exceptions: ReadonlySet<SecurityException> = new Set(),
  architecture: string = process.arch,
): Uint8Array {
  const key = [architecture, ...[...exceptions].sort()].join(" ");
  const filter = made.get(key) ?? makeFilter(exceptions, architecture);
  made.set(key, filter);
  return filter;
}

/** No sandbox starts on an architecture without a table of numbers. */
function makeFilter(exceptions: ReadonlySet<SecurityException>, architecture: string): Uint8Array {
  if (architecture !== "x64" && architecture !== "arm64")
    throw new BureauError(
      "unsupported",
      `Cannot confine programs on the architecture "${architecture}": there is no seccomp filter for it`,
      { hint: "run Bureau's machines on x86-64 or aarch64" },
    );
  const rules = denyList.filter(({ unless }) => unless === undefined || !exceptions.has(unless));
  return assemble([
    { op: "load", offset: ARCH_OFFSET },
    { op: "if-equal", value: AUDIT_ARCH[architecture], yes: "native", no: undefined },
    refuse(constants.errno.ENOSYS),
    { op: "label", name: "native" },
    loadNumber,
    ...(architecture === "x64" ? refuseX32() : []),
    ...rules.flatMap((rule, index) => ruleProgram(rule, architecture, String(index))),
    { op: "return", value: SECCOMP_RET_ALLOW },
  ]);
}

const refuseX32 = (): Instruction[] => [
  { op: "if-at-least", value: X32_NUMBERS, yes: undefined, no: "known" },
  refuse(constants.errno.ENOSYS),
  { op: "label", name: "known" },
];

/** Expects the call's number to be loaded, and leaves it so. */
function ruleProgram(rule: DenyRule, architecture: Architecture, name: string): Instruction[] {
  const conditions = rule.when ?? [];
  const next = `${name} next`;
  const numbers = rule.syscalls.map((syscall) => syscallNumber(syscall, architecture));
  return [
    ...numbers.map((value): Instruction => ({ op: "if-equal", value, yes: `${name} met`, no: undefined })),
    { op: "jump", to: next },
    { op: "label", name: `${name} met` },
    ...conditions.flatMap((one, index) => conditionProgram(one, `${name} ${index}`, `${name} reload`)),
    refuse(rule.errno),
    { op: "label", name: `${name} reload` },
    ...(conditions.length > 0 ? [loadNumber] : []),
    { op: "label", name: next },
  ];
}

/** Continues with the next instruction when the condition holds, else jumps to `otherwise`. */
function conditionProgram(condition: Condition, name: string, otherwise: string): Instruction[] {
  const holds = `${name} holds`;
  const isListed = "oneOf" in condition;
  const values = isListed ? condition.oneOf : condition.noneOf;
  return [
    { op: "load", offset: lowBitsOf(condition.argument) },
    ...(condition.mask === undefined ? [] : [{ op: "and", mask: condition.mask } as const]),
    ...values.map(
      (value): Instruction => ({
        op: "if-equal",
        value,
        yes: isListed ? holds : otherwise,
        no: undefined,
      }),
    ),
    ...(isListed ? [{ op: "jump", to: otherwise } as const] : []),
    { op: "label", name: holds },
  ];
}
