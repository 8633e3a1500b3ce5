/** Event messages on their way to the config room, and answers to commands there. */
import { waitFor } from "@bureau/kit/wait-for";
import { unsentMessagesFile } from "@bureau/os/layout";
import { loopAfter } from "../assembly/loop-after.ts";
import { subsystem } from "../assembly/subsystem.ts";
import { answerCommands } from "../event-messages/answer-commands.ts";
import type { EventMessage } from "../event-messages/event-message.ts";
import { Outbox, type Send } from "../event-messages/outbox.ts";
import { keepUnsent, takeUnsent } from "../event-messages/unsent.ts";

/** For messages on their way when another build is executed; that one sends the rest. */
const SEND_MS_MAX = 2_000;

export type Messages = {
  /** Never waits and never fails. */
  readonly post: (message: EventMessage) => void;
};

export const messages = subsystem({
  name: "messages",
  needs: {},
  start(_needs: object, { config, session, userId, hub, clock, random, log }) {
    const unsentFile = unsentMessagesFile(config.layout);
    const outbox = new Outbox({ clock, random, log, ...takeUnsent(unsentFile, log) });
    const post = outbox.post.bind(outbox);
    hub.on("config.messages", (events) => answerCommands(events, userId, post));
    const joined = hub.next("rooms.joined");
    const part: Messages = { post };
    return {
      part,
      loops: [
        loopAfter(joined, async (rooms, signal) => {
          const send: Send = (content, txnId, by) =>
            session.sendMessage(rooms.config, content, { txnId, signal: by });
          await outbox.run(send, signal);
        }),
      ],
      views: { state: () => ({ waiting: outbox.waiting }) },
      handOver: {
        async pause({ leavesMessages }) {
          const isEmpty = async () => (outbox.waiting === 0 ? true : undefined);
          if (!leavesMessages) await waitFor(isEmpty, { timeoutMs: SEND_MS_MAX, clock });
          return undefined;
        },
        keep: () => keepUnsent(unsentFile, outbox.unsent, log),
      },
    };
  },
});
