/**
 * User-interactive authentication: the first try is refused with a 401 that lists flows and names a session, then each
 * stage of one flow is answered in turn. We choose the first flow of which we can answer every stage.
 */
import { parse } from "@bureau/schema/parse";
import * as v from "valibot";
import { MatrixError } from "./matrix-error.ts";

const ChallengeSchema = v.object({
  session: v.optional(v.string()),
  flows: v.array(v.object({ stages: v.array(v.string()) })),
  completed: v.nullish(v.array(v.string()), () => []),
  errcode: v.optional(v.string()),
});

/** No homeserver asks for more stages than this. */
const STAGES_MAX = 5;

/** A homeserver that takes no stage before it has named a session says so with one of these. */
const NO_SESSION = ["M_MISSING_PARAM", "M_UNKNOWN", "M_BAD_JSON"];

/**
 * Runs `call`, answering what it is asked for from `answers` (stage → its fields). Answers the stage `expected` before it is
 * asked, which saves a request where the homeserver takes that.
 * @throws MatrixError `unauthorized` when an answer is not accepted or no flow can be answered
 */
export async function withInteractiveAuth<T>(
  call: (auth: Record<string, unknown> | undefined) => Promise<T>,
  answers: Readonly<Record<string, Readonly<Record<string, unknown>>>>,
  expected?: string,
): Promise<T> {
  let auth: Record<string, unknown> | undefined =
    expected === undefined ? undefined : { type: expected, ...answers[expected] };
  for (let stage = 0; stage <= STAGES_MAX; stage++) {
    const isEarly = stage === 0 && auth !== undefined;
    try {
      return await call(auth);
    } catch (error) {
      if (
        isEarly &&
        error instanceof MatrixError &&
        error.status === 400 &&
        NO_SESSION.includes(error.errcode)
      ) {
        auth = undefined;
        continue;
      }
      if (!(error instanceof MatrixError) || error.status !== 401) throw error;
      const challenge = v.safeParse(ChallengeSchema, error.body);
      const isRefused =
        auth !== undefined && !isEarly && challenge.success && challenge.output.errcode !== undefined;
      if (!challenge.success || isRefused) throw error;
      const next = nextStage(challenge.output, answers);
      if (next === undefined)
        throw new MatrixError("unauthorized", `The homeserver asks for a login flow Bureau does not have`, {
          status: 401,
          body: error.body,
        });
      const { session } = challenge.output;
      auth = { type: next, ...(session === undefined ? {} : { session }), ...answers[next] };
    }
  }
  throw new MatrixError("unauthorized", `The homeserver asked for more than ${STAGES_MAX} login stages`);
}

function nextStage(
  challenge: v.InferOutput<typeof ChallengeSchema>,
  answers: Readonly<Record<string, unknown>>,
): string | undefined {
  const flow = challenge.flows.find(({ stages }) => stages.every((stage) => Object.hasOwn(answers, stage)));
  return flow?.stages.find((stage) => !challenge.completed.includes(stage));
}

/** The fields both login and registration answer with. */
const GrantedSchema = v.object({
  user_id: v.string(),
  access_token: v.string(),
  device_id: v.optional(v.string()),
});

export const parseGranted = (value: unknown, what: string): v.InferOutput<typeof GrantedSchema> =>
  parse(GrantedSchema, value, what);
