#!/usr/bin/env bash
# Bun 1.4.5 (npm @oven/bun-linux-x64): a descriptor that is no stream can be watched by `Bun.connect`, and not by `net.Socket`.
#
# An epoll descriptor (or a pidfd) becomes readable when something happened, but has nothing to read. `new net.Socket({ fd })`
# takes it without a complaint and never reports anything: no data, no end, no error. Node refuses such a descriptor with
# ERR_INVALID_FD_TYPE. `Bun.connect({ fd })` takes it, too, and calls `close` once it is readable, with the error ENOTSOCK of
# the read that it tries. So this is a way to wait for the end of a process that is not a child. It watches once: after
# `close` the descriptor is still open, and must be handed to `Bun.connect` again.
#
# Output seen: `net.Socket: nothing`, then `Bun.connect: close after the timer, ENOTSOCK`.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix . @oven/bun-linux-x64@1.4.5
bun=node_modules/@oven/bun-linux-x64/bin/bun
cat >watch.ts <<'EOF2'
import { dlopen } from "bun:ffi";
import { Socket } from "node:net";

const { epoll_create1, epoll_ctl, pipe, write } = dlopen("libc.so.6", {
  epoll_create1: { args: ["i32"], returns: "i32" },
  epoll_ctl: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
  pipe: { args: ["ptr"], returns: "i32" },
  write: { args: ["i32", "ptr", "u64"], returns: "i64" },
}).symbols;

/** An epoll descriptor that becomes readable after 200 ms. */
function readableLater(): number {
  const ends = new Int32Array(2);
  pipe(ends);
  const set = epoll_create1(0);
  const event = new DataView(new ArrayBuffer(16));
  event.setUint32(0, 1, true);
  epoll_ctl(set, 1, ends[0], new Uint8Array(event.buffer));
  setTimeout(() => void write(ends[1], new Uint8Array([1]), 1), 200);
  return set;
}

const seen: string[] = [];
const socket = new Socket({ fd: readableLater(), readable: true });
for (const name of ["data", "end", "error", "close"]) socket.on(name, () => seen.push(name));
socket.resume();
await Bun.sleep(600);
console.log(`net.Socket: ${seen.join(", ") || "nothing"}`);

const began = performance.now();
const closed = Promise.withResolvers<string>();
const options = {
  fd: readableLater(),
  socket: {
    data() {},
    close: (_socket: unknown, error?: { code?: string }) => {
      const when = performance.now() - began > 150 ? "after the timer" : "at once";
      closed.resolve(`close ${when}, ${error?.code}`);
    },
  },
};
void Bun.connect(options as never);
console.log(`Bun.connect: ${await Promise.race([closed.promise, Bun.sleep(2_000).then(() => "nothing")])}`);
process.exit(0);
EOF2
out=$("$bun" watch.ts)
echo "$out"
grep -qx "net.Socket: nothing" <<<"$out"
grep -qx "Bun.connect: close after the timer, ENOTSOCK" <<<"$out"
