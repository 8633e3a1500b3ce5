/** `bureau login`: keeps an operator's session in a 0600 file. */
import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { BureauError } from "@bureau/kit/errors";
import { login } from "@bureau/matrix/auth";
import { writeOperatorSession } from "@bureau/matrix/session-file";
import { type Invocation, stringFlag } from "../command/command.ts";
import { findInstance } from "../instance/instance.ts";
import { layoutOf, readInput, sessionFile } from "../instance/operator.ts";

export async function run(invocation: Invocation): Promise<void> {
  const { terminal, args } = invocation;
  const user = args[0] ?? "";
  const homeserver =
    stringFlag(invocation, "homeserver") ?? findInstance(layoutOf(invocation))?.homeserverUrl;
  if (homeserver === undefined)
    throw new BureauError("invalid-input", "Cannot log in: which homeserver?", { hint: "--homeserver URL" });
  const passwordFile = stringFlag(invocation, "password-file");
  const password = passwordFile === undefined ? await askPassword(user) : readInput(passwordFile).trimEnd();
  const granted = await login({ homeserver, user, password, deviceName: "bureau" });
  const file = sessionFile(invocation);
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeOperatorSession(file, { homeserver, userId: granted.userId, token: granted.token });
  terminal.say(`Logged in as ${granted.userId}; the session is kept in ${file}`);
}

/** Asks on the terminal without showing what is typed. */
async function askPassword(user: string): Promise<string> {
  if (!process.stdin.isTTY)
    throw new BureauError("invalid-input", "Cannot ask for a password: standard input is not a terminal", {
      hint: "--password-file PATH, or - for standard input",
    });
  process.stderr.write(`Password of ${user}: `);
  process.stdin.setRawMode(true);
  try {
    return await readHidden();
  } finally {
    process.stdin.setRawMode(false);
    process.stderr.write("\n");
  }
}

function readHidden(): Promise<string> {
  return new Promise((resolve, reject) => {
    const lines = createInterface({ input: process.stdin, terminal: false });
    let typed = "";
    process.stdin.on("data", (chunk: Buffer) => {
      for (const char of chunk.toString("utf8")) {
        if (char === "\r" || char === "\n") {
          lines.close();
          process.stdin.pause();
          return resolve(typed);
        }
        if (char === "\u0003") {
          lines.close();
          return reject(new BureauError("failed", "Interrupted"));
        }
        typed = char === "\u007f" ? typed.slice(0, -1) : typed + char;
      }
    });
  });
}
