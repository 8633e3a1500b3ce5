/**
 * Password hashing: argon2id on Bun's thread pool, so that the event loop is not blocked. The cost is the smallest that
 * the OWASP password storage sheet names (19 MiB, 2 passes): 26 ms on the machine this was measured on.
 */
import { MatrixError } from "../http/matrix-error.ts";

const slow = { algorithm: "argon2id", memoryCost: 19_456, timeCost: 2 } as const;
/** For passwords that cannot be guessed: the same algorithm, so that earlier builds read the hash, at its least cost. */
const fast = { algorithm: "argon2id", memoryCost: 8, timeCost: 1 } as const;
const isFast = (hash: string): boolean => hash.includes("$m=8,t=1,");
/** Maximum bytes of a password. Longer ones add no security and cost time. */
const PASSWORD_BYTES_MAX = 512;
/** Hashes at once: bounds memory at 4 × 19 MiB when many clients log in together. */
const CONCURRENT_MAX = 4;
/** Requests in the queue: one or two seconds of hashing. They need no token, so the queue needs a limit. */
const WAITING_MAX = 100;
const RETRY_AFTER_MS = 2_000;

let running = 0;
const waiting: (() => void)[] = [];

async function limited<T>(act: () => Promise<T>): Promise<T> {
  if (waiting.length >= WAITING_MAX) {
    const retry = { retry_after_ms: RETRY_AFTER_MS };
    throw new MatrixError(429, "M_LIMIT_EXCEEDED", "Too many passwords are being checked", retry);
  }
  if (running >= CONCURRENT_MAX) await new Promise<void>((resolve) => waiting.push(resolve));
  running += 1;
  try {
    return await act();
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

/**
 * Hashes a new password; `isDerived`: it has the entropy of a key (`derived-password.ts`). M_WEAK_PASSWORD when empty,
 * M_INVALID_PARAM when oversized, M_LIMIT_EXCEEDED.
 */
export async function hashPassword(password: string, isDerived: boolean): Promise<string> {
  if (password === "") throw new MatrixError(400, "M_WEAK_PASSWORD", "The password is empty");
  if (Buffer.byteLength(password) > PASSWORD_BYTES_MAX) {
    throw new MatrixError(400, "M_INVALID_PARAM", `The password is longer than ${PASSWORD_BYTES_MAX} bytes`);
  }
  return isDerived ? Bun.password.hash(password, fast) : limited(() => Bun.password.hash(password, slow));
}

let decoy: Promise<string> | undefined;

/**
 * Whether `password` matches. A wrong password takes the same time with each hash and without one, so that names do not leak.
 * Errors: M_LIMIT_EXCEEDED.
 */
export async function verifyPassword(password: string, hash: string | null): Promise<boolean> {
  if (Buffer.byteLength(password) > PASSWORD_BYTES_MAX || password === "") return false;
  if (hash !== null && !isFast(hash)) return limited(() => Bun.password.verify(password, hash));
  if (hash !== null && (await Bun.password.verify(password, hash))) return true;
  decoy ??= Bun.password.hash("a password of no account", slow);
  const wrong = await decoy;
  await limited(() => Bun.password.verify(password, wrong));
  return false;
}
