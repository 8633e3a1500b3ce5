/**
 * The law of `scale.ts` in short: a create must not cost more on a machine with many sandboxes. Two instances run side by
 * side, one with a single sandbox and one with many, and take turns: what disturbs one disturbs the other.
 */
import { createBureau, type TestBureau } from "@bureau/testkit/bureau";
import { AssignedAgents, type Assignment, type Programs, type RoundTripCost } from "./assigned-agents.ts";
import { type Figure, figure, median } from "./statistics.ts";

const [FEW, MANY] = [1, 50] as const;
const ROUNDS = 15;
/** The first rounds warm the caches of both. */
const WARM_UP = 3;
/** A pass over all sandboxes for each create gives about 2. */
const RATIO_MAX = 1.6;

export async function benchGrowth(): Promise<Figure[]> {
  await using fewBureau = createBureau();
  await using manyBureau = createBureau();
  const few = await GrownInstance.open(fewBureau, FEW);
  const many = await GrownInstance.open(manyBureau, MANY);
  for (let round = 0; round < ROUNDS; round++) {
    await few.measure(round);
    await many.measure(round);
  }
  const grown = (name: string, kind: keyof RoundTripCost): Figure =>
    figure(
      `${name} beside ${MANY} sandboxes`,
      many.median(kind),
      "ms",
      { name: `beside ${FEW}`, value: few.median(kind) },
      "≤ 1.3×",
      RATIO_MAX,
    );
  return [
    grown("PUT to first instruction", "create"),
    grown("daemon CPU of one create and destroy", "daemon"),
    grown("launcher CPU of one create and destroy", "launcher"),
  ];
}

class GrownInstance {
  readonly #samples: RoundTripCost[] = [];

  private constructor(
    readonly agents: AssignedAgents,
    readonly pool: readonly Assignment[],
    readonly programs: Programs,
  ) {}

  static async open(bureau: TestBureau, sandboxes: number): Promise<GrownInstance> {
    await bureau.json("up");
    await bureau.json("agent", "destroy", "greeter");
    const agents = await AssignedAgents.open(bureau);
    const pool = await agents.prepare("p", ROUNDS);
    await agents.start(await agents.prepare("n", sandboxes));
    return new GrownInstance(agents, pool, await bureau.json<Programs>("status"));
  }

  async measure(round: number): Promise<void> {
    const assignment = this.pool[round];
    if (assignment === undefined) throw new Error(`no agent for round ${round}`);
    const cost = await this.agents.cost(assignment, this.programs);
    if (round >= WARM_UP) this.#samples.push(cost);
  }

  median(kind: keyof RoundTripCost): number {
    return median(this.#samples.map((sample) => sample[kind]));
  }
}

if (import.meta.main) console.log(JSON.stringify(await benchGrowth(), null, 2));
