import { describe, expect, test } from "bun:test";
import { BureauError } from "@bureau/kit/errors";
import type { LogFields } from "@bureau/kit/log";
import { createLog } from "./log.ts";
import { evalCommand } from "./runtime-command.ts";

function capture(options: Parameters<typeof createLog>[1] = {}) {
  const lines: LogFields[] = [];
  const write = (line: string): void => {
    expect(line.endsWith("\n")).toBe(true);
    expect(line.slice(0, -1)).not.toContain("\n");
    lines.push(JSON.parse(line));
  };
  return { log: createLog("prog", { level: "debug", ...options, write }), lines };
}

describe("log lines", () => {
  test("are one JSON object each, with time, level, program, event, message and fields", () => {
    const { log, lines } = capture();
    log.info("test.done", "hello\nworld", { n: 1 });
    expect(lines[0]).toMatchObject({
      level: "info",
      program: "prog",
      event: "test.done",
      message: "hello\nworld",
      n: 1,
    });
    expect(String(lines[0]?.["time"])).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  });

  test("below the level are not written", () => {
    const { log, lines } = capture({ level: "warn" });
    log.debug("test.done", "a");
    log.info("test.done", "b");
    log.warn("test.done", "c");
    log.error("test.done", "d");
    expect(lines.map((line) => line["level"])).toEqual(["warn", "error"]);
  });

  test("inherit the fields and level of their parent log", () => {
    const { log, lines } = capture({ level: "warn", fields: { a: 1 } });
    const inner = log.with({ b: 2 }).with({ a: 3 });
    inner.info("test.done", "quiet");
    inner.warn("test.done", "x");
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({ a: 3, b: 2 });
  });

  test("show errors with their code, causes and hint", () => {
    const { log, lines } = capture();
    log.error("test.done", "x", {
      error: new BureauError("conflict", "m", { hint: "h", cause: new Error("c") }),
      other: new TypeError("t"),
    });
    expect(lines[0]?.["error"]).toEqual({ code: "conflict", message: "m: c", hint: "h" });
    expect(lines[0]?.["other"]).toEqual({ message: "t" });
  });

  test("are written with every kind of field", () => {
    const { log, lines } = capture();
    const circle: Record<string, unknown> = {};
    circle["self"] = circle;
    const throwing = {
      toJSON() {
        throw new Error("no");
      },
    };
    log.info("test.done", "big", { big: 2n ** 70n });
    log.info("test.done", "circle", { circle });
    log.info("test.done", "throwing", { throwing });
    expect(lines.map((line) => line["message"])).toEqual(["big", "circle", "throwing"]);
    expect(lines[0]?.["big"]).toBe("1180591620717411303424");
  });
});

test("the level comes from BUREAU_LOG; an unknown word means info", async () => {
  const run = async (level: string): Promise<number> => {
    const script = `import { createLog } from ${JSON.stringify(`${import.meta.dir}/log.ts`)};
      const log = createLog("p"); log.debug("test.done", "1"); log.info("test.done", "2"); log.warn("test.done", "3"); log.error("test.done", "4");`;
    const child = Bun.spawn(evalCommand(script), {
      env: { ...process.env, BUREAU_LOG: level },
      stderr: "pipe",
    });
    return (await child.stderr.text()).trim().split("\n").length;
  };
  expect(await Promise.all(["debug", "error", "toString"].map(run))).toEqual([4, 1, 3]);
});
