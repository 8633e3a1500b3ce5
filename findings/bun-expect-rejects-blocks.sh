#!/usr/bin/env bash
# Bun 1.4.5 (npm @oven/bun-linux-x64): `expect(promise).rejects` blocks, and runs the event loop inside a synchronous call.
#
# In Jest and Vitest a matcher after `.rejects` or `.resolves` returns a promise, which the test must await. In Bun the
# matcher returns undefined. It does not return before the promise is resolved or rejected: meanwhile it runs timers and I/O of the
# program, in the middle of a synchronous function. Code that relies on "no other code runs until I await" does not hold
# in such a test, and a forgotten `await` is not a mistake there.
#
# Output seen: `returned undefined after the timers: true, blocked: true`.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix . @oven/bun-linux-x64@1.4.5
bun=node_modules/@oven/bun-linux-x64/bin/bun
cat >rejects.test.js <<'EOF'
import { expect, test } from "bun:test";

test("a matcher after .rejects", () => {
  let ticks = 0;
  const timer = setInterval(() => ticks++, 10);
  const start = performance.now();
  const returned = expect(new Promise((_, reject) => setTimeout(() => reject(new Error("late")), 200))).rejects.toThrow("late");
  // No await above: this is still the same synchronous run of the function.
  console.log(`returned ${returned} after the timers: ${ticks > 0}, blocked: ${performance.now() - start > 190}`);
  clearInterval(timer);
});
EOF
out=$("$bun" test rejects.test.js 2>&1)
echo "$out"
echo "$out" | grep -q "returned undefined after the timers: true, blocked: true"
