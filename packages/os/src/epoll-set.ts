/** A set of descriptors that the kernel watches (epoll(7)). Asking it costs the same for any number of descriptors. */
import { dlopen, FFIType } from "bun:ffi";
import { closeSync } from "node:fs";
import { BureauError } from "@bureau/kit/errors";

// Not among the functions of posix.ts: each function costs time when that library is opened, also where no set is used.
const openLibc = () =>
  dlopen("libc.so.6", {
    epoll_create1: { args: [FFIType.i32], returns: FFIType.i32 },
    epoll_ctl: { args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr], returns: FFIType.i32 },
    epoll_wait: { args: [FFIType.i32, FFIType.ptr, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  }).symbols;

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLLIN = 1;
/** struct epoll_event: u32 events, u64 data; packed on x86-64 only. */
const [EVENT_BYTES, DATA_OFFSET] = process.arch === "x64" ? [12, 4] : [16, 8];
const READY_MAX = 64;

export class EpollSet implements Disposable {
  readonly #libc = openLibc();
  readonly #event = new DataView(new ArrayBuffer(EVENT_BYTES));
  readonly #ready = new DataView(new ArrayBuffer(EVENT_BYTES * READY_MAX));
  /** Readable while a descriptor of the set is. */
  readonly fd: number;

  /** @throws BureauError */
  constructor() {
    this.fd = this.#libc.epoll_create1(EPOLL_CLOEXEC);
    if (this.fd < 0) throw new BureauError("failed", "Cannot watch descriptors: epoll_create1 failed");
  }

  /** False when the kernel cannot watch that descriptor, or no more of them. */
  add(fd: number): boolean {
    this.#event.setUint32(0, EPOLLIN, true);
    this.#event.setUint32(DATA_OFFSET, fd, true);
    return this.#libc.epoll_ctl(this.fd, EPOLL_CTL_ADD, fd, new Uint8Array(this.#event.buffer)) === 0;
  }

  /** Before the descriptor is closed. */
  remove(fd: number): void {
    this.#libc.epoll_ctl(this.fd, EPOLL_CTL_DEL, fd, new Uint8Array(this.#event.buffer));
  }

  /** Descriptors that are readable now; further ones are in the next answer, when these have been removed. */
  ready(): number[] {
    const count = this.#libc.epoll_wait(this.fd, new Uint8Array(this.#ready.buffer), READY_MAX, 0);
    return Array.from({ length: Math.max(0, count) }, (_, index) =>
      this.#ready.getUint32(index * EVENT_BYTES + DATA_OFFSET, true),
    );
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}
