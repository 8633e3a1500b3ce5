/** `bureau up` and `bureau down` in any order, at once, and on leftovers of a supervisor. */
import { afterAll, expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findByArguments, findProcesses, signalProcess } from "@bureau/os/process-table";
import { parseRoomAlias } from "@bureau/schema/refs";
import { bureauCommand, createBureau } from "@bureau/testkit/bureau";

const bureau = createBureau();
afterAll(() => bureau[Symbol.asyncDispose]());
const TEST_MS_MAX = 240_000;

/** Every process with a folder of the instance in its command line, except commands that people type. */
const left = (): string[] =>
  findProcesses((args) =>
    args.some((word) => word.startsWith(bureau.home) || word.startsWith(bureau.layout.runDir)),
  )
    .map(({ pid }) => String(pid))
    .concat(findByArguments("--home", bureau.home).map(({ pid }) => `supervisor ${pid}`));

async function down(): Promise<void> {
  expect(await bureau.run("down")).toMatchObject({ code: 0 });
  // At once: a user may type `rm -r` next.
  expect(left()).toEqual([]);
}

test(
  "down ends an unreachable supervisor, and so does up, which starts another",
  async () => {
    await bureau.json("up");
    rmSync(bureau.layout.supervisorSocket);
    await down();
    // It repairs what is missing or broken.
    writeFileSync(bureau.layout.sessionFile, "{");
    expect(await bureau.run("agent", "list")).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("→"),
    });
    await bureau.json("up");
    expect(await bureau.run("agent", "list")).toMatchObject({ code: 0 });
    const [before] = findByArguments("--home", bureau.home);
    rmSync(bureau.layout.supervisorSocket);
    await bureau.json("up");
    const supervisors = findByArguments("--home", bureau.home);
    expect(supervisors).toHaveLength(1);
    expect(supervisors[0]).not.toEqual(before);
  },
  TEST_MS_MAX,
);

test(
  "up finds the greeter's message behind many newer ones",
  async () => {
    const session = bureau.session();
    const lobby = await session.resolveAlias(parseRoomAlias("#bureau/lobby:bureau.local"));
    if (lobby === undefined) throw new Error("there is no lobby");
    for (let n = 0; n < 120; n++)
      await session.sendEvent(lobby, "m.room.message", { msgtype: "m.text", body: `line ${n}` });
    expect(await bureau.run("up")).toMatchObject({ code: 0 });
  },
  TEST_MS_MAX,
);

test(
  "an interrupted up says that programs keep running, and the next up continues",
  async () => {
    await down();
    const child = Bun.spawn([bureauCommand, "up"], {
      env: { ...process.env, BUREAU_HOME: bureau.home },
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
    });
    let said = "";
    for await (const chunk of child.stderr) {
      said += Buffer.from(chunk).toString();
      if (said.includes("Homeserver")) child.kill("SIGINT");
    }
    expect(await child.exited).toBe(130);
    expect(said).toContain("Interrupted. What has started keeps running");
    expect(findByArguments("--home", bureau.home)).toHaveLength(1);
    expect(await bureau.run("up")).toMatchObject({ code: 0 });
  },
  TEST_MS_MAX,
);

test(
  "two downs and an up at once leave a state that the next up and down can handle",
  async () => {
    for (let round = 0; round < 2; round++) {
      await bureau.json("up");
      const downs = [bureau.run("down"), bureau.run("down")];
      const up = bureau.run("up");
      for (const { code, stderr } of await Promise.all(downs))
        expect({ code, stderr }).toMatchObject({ code: 0 });
      await up;
      expect(findByArguments("--home", bureau.home).length).toBeLessThan(2);
    }
    await bureau.json("up");
    await down();
  },
  TEST_MS_MAX,
);

test(
  "down ends all processes of a killed supervisor, and of a launcher killed with it",
  async () => {
    await bureau.json("up");
    for (const process of [
      ...findByArguments("--home", bureau.home),
      ...findProcesses(
        (args) =>
          args.some((word) => word.endsWith("/bureau-launcher/main.js")) &&
          args.includes(bureau.layout.runDir),
      ),
    ])
      signalProcess(process, "SIGKILL");
    // The daemon still runs and answers: an unsupervised program is not "stopped".
    const { homeserver, hint } = JSON.parse((await bureau.run("status", "--json")).stdout);
    expect({ homeserver, hint }).toMatchObject({
      homeserver: { state: "unsupervised" },
      hint: expect.stringContaining("bureau up"),
    });
    rmSync(join(bureau.home, "supervisor.json"), { force: true });
    await down();
  },
  TEST_MS_MAX,
);
