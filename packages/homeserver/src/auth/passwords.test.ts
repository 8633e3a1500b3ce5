import { expect, test } from "bun:test";
import { MatrixError } from "../http/matrix-error.ts";
import { verifyPassword } from "./passwords.ts";

test("refuses a login when many passwords wait for their check, and completes the others", async () => {
  const hash = await Bun.password.hash("right", { algorithm: "bcrypt", cost: 4 });
  const all = Array.from({ length: 130 }, () => verifyPassword("right", hash));
  const outcomes = await Promise.allSettled(all);
  const refused = outcomes.flatMap((one) => (one.status === "rejected" ? [one.reason] : []));
  // 4 at once and 100 that wait.
  expect(refused).toHaveLength(26);
  for (const error of refused) {
    expect(error).toBeInstanceOf(MatrixError);
    expect(error).toMatchObject({ status: 429, errcode: "M_LIMIT_EXCEEDED" });
  }
  expect(outcomes.filter((one) => one.status === "fulfilled" && one.value)).toHaveLength(104);
  expect(await verifyPassword("right", hash)).toBe(true);
});
