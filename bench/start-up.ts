/** How long `bureau --help` takes beside the runtime doing nothing. Runs are interleaved. */
import { join } from "node:path";
import { runtimeArguments } from "@bureau/os/runtime-command";
import { bureauCommand } from "@bureau/testkit/bureau";
import { type Figure, figure, median } from "./statistics.ts";

const ROUNDS = 40;
/** Help that loads every command's declaration gives about 5. */
const BARE_RATIO_MAX = 3;

export async function benchStartUp(): Promise<Figure[]> {
  const dist = join(import.meta.dir, "../dist/current");
  const runtime = join(dist, "runtime/bun");
  const commands = {
    bare: [runtime, ...runtimeArguments, "-e", "0"],
    help: [runtime, ...runtimeArguments, join(dist, "lib/bureau/main.js"), "--help"],
    shim: [bureauCommand, "--help"],
    checkout: [join(import.meta.dir, "../bureau"), "--help"],
  };
  const samples = new Map(Object.keys(commands).map((name): [string, number[]] => [name, []]));
  for (let round = 0; round < ROUNDS; round++)
    for (const [name, command] of Object.entries(commands)) {
      const started = performance.now();
      const { exitCode } = Bun.spawnSync(command, { stdout: "ignore", stderr: "ignore", stdin: "ignore" });
      if (exitCode !== 0) throw new Error(`${command.join(" ")} exited with ${exitCode}`);
      if (round > 2) samples.get(name)?.push(performance.now() - started);
    }
  const of = (name: keyof typeof commands): number => median(samples.get(name) ?? []);
  const bare = { name: "bun -e 0", value: of("bare") };
  return [
    figure("bureau --help", of("help"), "ms", bare, "≤ 1.5×", BARE_RATIO_MAX),
    figure("bureau --help through its script", of("shim"), "ms", bare),
    figure("./bureau --help in a checkout (looks for newer sources first)", of("checkout"), "ms", bare),
  ];
}

if (import.meta.main) console.log(JSON.stringify(await benchStartUp(), null, 2));
