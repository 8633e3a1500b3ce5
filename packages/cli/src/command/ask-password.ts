/** A password, typed by a person at their terminal. */
import { BureauError } from "@bureau/kit/errors";
import { harmlessLine } from "@bureau/kit/harmless";

type SecretQuestion = { readonly what: string; readonly prompt: string; readonly hint: string };

/** {@link askSecret} for a password. */
export const askPassword = (
  user: string,
  hint = "--password-file PATH, or - for standard input",
): Promise<string> => askSecret({ what: "a password", prompt: `Password of ${user}`, hint });

/** Asks without showing what is typed. @throws BureauError `invalid-input` with `hint` without a terminal */
export async function askSecret({ what, prompt, hint }: SecretQuestion): Promise<string> {
  if (!process.stdin.isTTY)
    throw new BureauError("invalid-input", `Cannot ask for ${what}: standard input is not a terminal`, {
      hint,
    });
  process.stderr.write(`${harmlessLine(prompt)}: `);
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
    let typed = "";
    const end = (answer: () => void): void => {
      process.stdin.off("data", take);
      process.stdin.pause();
      answer();
    };
    const take = (chunk: Buffer): void => {
      for (const char of chunk.toString("utf8")) {
        if (char === "\r" || char === "\n") {
          end(() => resolve(typed));
          return;
        }
        if (char === "\u0003") {
          end(() => reject(new BureauError("failed", "Interrupted")));
          return;
        }
        typed = char === "\u007f" ? typed.slice(0, -1) : typed + char;
      }
    };
    process.stdin.on("data", take);
    process.stdin.resume();
  });
}
