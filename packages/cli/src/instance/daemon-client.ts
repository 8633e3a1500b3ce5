/** Asking this machine's daemon, over observe.sock: one JSON line each way. */
import { connect } from "node:net";
import { BureauError, type ErrorCode, errnoOf, messageOf } from "@bureau/kit/errors";
import { type Layout, observeSocket } from "@bureau/kit/layout";
import {
  type LogsReplySchema,
  LogsReplySchema as logsReply,
  type MachineReport,
  MachineReportSchema,
  OBSERVE_LINE_BYTES_MAX,
  ObserveErrorSchema,
  type ObserveRequest,
} from "@bureau/schema/observe-wire";
import { parseJson } from "@bureau/schema/parse";
import * as v from "valibot";

/** Longer than the daemon's own deadline for a token check (wire facts, section 8.1). */
const ANSWER_MS_MAX = 15_000;

/** What the machine is doing; needs no token. @throws BureauError `unavailable` when the daemon is away */
export const machineReport = (layout: Layout): Promise<MachineReport> =>
  ask(layout, { action: "status" }, MachineReportSchema);

export const agentLogs = (
  layout: Layout,
  request: { readonly token: string; readonly principal: string; readonly lines: number },
): Promise<v.InferOutput<typeof LogsReplySchema>> => ask(layout, { action: "logs", ...request }, logsReply);

async function ask<const Schema extends v.GenericSchema>(
  layout: Layout,
  request: ObserveRequest,
  schema: Schema,
): Promise<v.InferOutput<Schema>> {
  const line = await exchange(observeSocket(layout), `${JSON.stringify(request)}\n`);
  const reply = parseJson(
    v.union([ObserveErrorSchema, v.looseObject({ ok: v.literal(true) })]),
    line,
    "daemon reply",
  );
  if (!reply.ok) {
    const failure = parseJson(ObserveErrorSchema, line, "daemon reply");
    throw new BureauError((failure.code ?? "failed") as ErrorCode, failure.error, {
      hint: failure.hint ?? "",
    });
  }
  return parseJson(schema, line, "daemon reply");
}

function exchange(path: string, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const socket = connect({ path });
    const fail = (reason: string, code: ErrorCode = "unavailable"): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(new BureauError(code, `Cannot ask the daemon at "${path}": ${reason}`, { hint: "bureau up" }));
    };
    const timer = setTimeout(() => fail(`no answer within ${ANSWER_MS_MAX} ms`, "timeout"), ANSWER_MS_MAX);
    socket.once("connect", () => socket.write(request));
    socket.once("error", (error) => fail(errnoOf(error) ?? messageOf(error)));
    socket.once("close", () => fail("it closed the connection"));
    socket.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      size += chunk.length;
      if (size > OBSERVE_LINE_BYTES_MAX) fail("its answer is too long", "too-large");
      if (!chunk.includes(10)) return;
      clearTimeout(timer);
      socket.removeAllListeners("close");
      socket.destroy();
      resolve(Buffer.concat(chunks).toString("utf8").split("\n")[0] ?? "");
    });
  });
}
