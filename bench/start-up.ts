/**
 * How long `bureau --help` takes beside the runtime doing nothing, and commands that read beside a program that makes their
 * kind of request and nothing else. Runs are interleaved.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runtimeArguments } from "@bureau/os/runtime-command";
import { bureauCommand, createBureau } from "@bureau/testkit/bureau";
import { type Figure, figure, median } from "./statistics.ts";

const ROUNDS = 40;
/** Help that loads every command's declaration gives about 5. */
const BARE_RATIO_MAX = 3;

/** A read command that loads the whole program gives about 6. */
const READ_RATIO_MAX = 8;
const READS = ["agent list", "template list", "machine list"] as const;

const dist = join(import.meta.dir, "../dist/current");
const runtime = [join(dist, "runtime/bun"), ...runtimeArguments];

export const benchStartUp = async (): Promise<Figure[]> => [...helpFigures(), ...(await readFigures())];

function helpFigures(): Figure[] {
  const of = timesOf({
    bare: [...runtime, "-e", "0"],
    help: [...runtime, join(dist, "lib/bureau/main.js"), "--help"],
    shim: [bureauCommand, "--help"],
    checkout: [join(import.meta.dir, "../bureau"), "--help"],
  });
  const bare = { name: "bun -e 0", value: median(of.bare) };
  return [
    figure("bureau --help", median(of.help), "ms", bare, "≤ 1.5×", BARE_RATIO_MAX),
    figure("bureau --help through its script", median(of.shim), "ms", bare),
    figure("./bureau --help in a checkout (looks for newer sources first)", median(of.checkout), "ms", bare),
  ];
}

/**
 * The floor: the runtime with node:fs, which reads the session, and one request to the same homeserver. Beside `--help` it
 * shows which ratio to help a command that reads can have.
 */
async function readFigures(): Promise<Figure[]> {
  await using bureau = createBureau();
  await bureau.run("up");
  const folder = mkdtempSync(join(tmpdir(), "bu-"));
  try {
    const floor = join(folder, "floor.js");
    const socket = JSON.stringify(bureau.layout.homeserverSocket);
    const session = JSON.stringify(bureau.layout.sessionFile);
    writeFileSync(
      floor,
      `require("node:fs").readFileSync(${session});
fetch("http://localhost/_matrix/client/versions", { unix: ${socket} }).then((answer) => answer.text()).then(() => process.exit(0));
`,
    );
    const main = [...runtime, join(dist, "lib/bureau/main.js")];
    const read = (words: (typeof READS)[number]): string[] => [...main, ...words.split(" ")];
    const commands = { help: [...main, "--help"], floor: [...runtime, floor] };
    const of = timesOf(
      {
        ...commands,
        "agent list": read("agent list"),
        "template list": read("template list"),
        "machine list": read("machine list"),
      },
      { BUREAU_HOME: bureau.home },
    );
    const beside = { name: "the runtime, node:fs and one request", value: median(of.floor) };
    const help = { name: "bureau --help", value: median(of.help) };
    return [
      figure(`  ${beside.name}`, beside.value, "ms", help),
      ...READS.flatMap((name) => [
        figure(`bureau ${name}`, median(of[name]), "ms", beside, undefined, READ_RATIO_MAX),
        figure(`bureau ${name}`, median(of[name]), "ms", help, "≤ 1.5×"),
      ]),
    ];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Milliseconds of each command, in turn. */
function timesOf<Name extends string>(
  commands: Readonly<Record<Name, readonly string[]>>,
  env: Readonly<Record<string, string>> = {},
): Record<Name, number[]> {
  const names = Object.keys(commands) as Name[];
  const samples = Object.fromEntries(names.map((name): [string, number[]] => [name, []])) as Record<
    Name,
    number[]
  >;
  for (let round = 0; round < ROUNDS; round++)
    for (const name of names) {
      const started = performance.now();
      const { exitCode } = Bun.spawnSync([...commands[name]], {
        env: { ...process.env, ...env },
        stdout: "ignore",
        stderr: "ignore",
        stdin: "ignore",
      });
      if (exitCode !== 0) throw new Error(`${commands[name].join(" ")} exited with ${exitCode}`);
      if (round > 2) samples[name].push(performance.now() - started);
    }
  return samples;
}

if (import.meta.main) console.log(JSON.stringify(await benchStartUp(), null, 2));
