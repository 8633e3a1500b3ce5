/**
 * Assembles classic BPF for seccomp(2). Jumps name a label; the assembler computes the offsets. An instruction is
 * `struct sock_filter`: u16 code, u8 jump if true, u8 jump if false, u32 operand (linux/filter.h).
 */

/** The target of a jump: a label; undefined: the next instruction. */
export type Target = string | undefined;

export type Instruction =
  | { readonly op: "load"; readonly offset: number }
  | { readonly op: "and"; readonly mask: number }
  | { readonly op: "jump"; readonly to: string }
  | {
      readonly op: "if-equal" | "if-at-least";
      readonly value: number;
      readonly yes: Target;
      readonly no: Target;
    }
  | { readonly op: "return"; readonly value: number }
  /** Names the next instruction; is not an instruction itself. */
  | { readonly op: "label"; readonly name: string };

export const opcodes = {
  load: 0x20, // BPF_LD | BPF_W | BPF_ABS
  and: 0x54, // BPF_ALU | BPF_AND | BPF_K
  jump: 0x05, // BPF_JMP | BPF_JA
  "if-equal": 0x15, // BPF_JMP | BPF_JEQ | BPF_K
  "if-at-least": 0x35, // BPF_JMP | BPF_JGE | BPF_K
  return: 0x06, // BPF_RET | BPF_K
} as const;

export const INSTRUCTION_BYTES = 8;
const CONDITIONAL_JUMP_MAX = 255;

/** @throws Error when a label is missing or too far away: a bug of the program, not of its input */
export function assemble(program: readonly Instruction[]): Uint8Array {
  const labels = new Map<string, number>();
  let length = 0;
  for (const one of program)
    if (one.op === "label") labels.set(one.name, length);
    else length += 1;
  const bytes = new DataView(new ArrayBuffer(length * INSTRUCTION_BYTES));
  let index = 0;
  const distance = (to: Target): number => {
    const target = to === undefined ? index + 1 : labels.get(to);
    if (target === undefined || target <= index) throw new Error(`no label "${to}" ahead of ${index}`);
    return target - index - 1;
  };
  const near = (to: Target): number => {
    const far = distance(to);
    if (far > CONDITIONAL_JUMP_MAX) throw new Error(`"${to}" is ${far} instructions away`);
    return far;
  };
  const put = (code: number, operand: number, yes = 0, no = 0): void => {
    const at = index * INSTRUCTION_BYTES;
    bytes.setUint16(at, code, true);
    bytes.setUint8(at + 2, yes);
    bytes.setUint8(at + 3, no);
    bytes.setUint32(at + 4, operand, true);
    index += 1;
  };
  for (const one of program)
    if (one.op === "load") put(opcodes.load, one.offset);
    else if (one.op === "and") put(opcodes.and, one.mask);
    else if (one.op === "jump") put(opcodes.jump, distance(one.to));
    else if (one.op === "return") put(opcodes.return, one.value);
    else if (one.op !== "label") put(opcodes[one.op], one.value, near(one.yes), near(one.no));
  return new Uint8Array(bytes.buffer);
}
