/** What every client library must be able to do inside a sandbox: sync, send, receive and answer, as its principal. */
import { expect } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { TestBureau } from "@bureau/testkit/bureau";
import { eventually } from "@bureau/testkit/use-bureau";

type Message = { sender: string; content: { body?: string } };

/** The folder that the agent sees as /workspace, created before the agent. */
export function workspaceOf(bureau: TestBureau, name: string): string {
  const folder = join(bureau.layout.workspaceRoot, "home", "agent", name);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return folder;
}

/** Runs `program` (with $BUREAU_PROXY_URL and the lobby's ID) behind a bridge in an agent's sandbox, and talks to it. */
export async function talkTo(bureau: TestBureau, name: string, program: string): Promise<void> {
  const lobby = await lobbyOf(bureau);
  const command = `exec bureau-bridge -- sh -c 'exec ${program} "$BUREAU_PROXY_URL" "${lobby}"'`;
  const created = await bureau.json<{ user_id: string; state: string }>(
    "agent",
    "create",
    name,
    "--command",
    command,
  );
  expect(created.state).toBe("running");
  await heard(bureau, name, created.user_id, `${name} here`);
  await bureau.json("matrix", "send", "bureau/lobby", `${name}, say forty-two`);
  await heard(bureau, name, created.user_id, `${name} says forty-two`);
}

async function lobbyOf(bureau: TestBureau): Promise<string> {
  const { rooms } = await bureau.json<{ rooms: { alias: string; room_id: string }[] }>(
    "matrix",
    "room",
    "list",
  );
  return rooms.find(({ alias }) => alias.startsWith("#bureau/lobby:"))?.room_id ?? "";
}

async function heard(bureau: TestBureau, name: string, sender: string, body: string): Promise<void> {
  await eventually(
    async () => {
      const { messages } = await bureau.json<{ messages: Message[] }>(
        ...["matrix", "messages", "bureau/lobby", "--limit", "50"],
      );
      return messages.find((message) => message.sender === sender && message.content.body === body);
    },
    {
      describe: async () =>
        `"${body}" was never said; its terminal:\n${(await bureau.run("agent", "logs", name)).stdout}`,
    },
  );
}
