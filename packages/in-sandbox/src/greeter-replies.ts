/** What the greeter says. Pure: the same words and the same moment give the same reply. */

export type Speaker = {
  /** The greeter's own user ID. */
  readonly self: string;
  /** Who wrote. */
  readonly sender: string;
  /** Milliseconds since the epoch. */
  readonly nowMs: number;
};

/** `reviewer` of `@bureau/fleet/prod/agent/code/reviewer:bureau.local`. */
export const shortName = (user: string): string => user.slice(1).split(":")[0]?.split("/").at(-1) || user;

export const defaultGreeting = (self: string): string =>
  `Hello! I am ${shortName(self)}, your first agent. I run in a sandbox of my own and everything I do goes through my proxy.\n` +
  'Write to me here: try "help", "who are you" or "time".';

export const backAgain = (self: string): string => `I am back. (${shortName(self)} was started again)`;

type Rule = { readonly words: RegExp; readonly reply: (speaker: Speaker) => string };

/** The first rule whose words occur answers. */
const rules: readonly Rule[] = [
  {
    words: /\b(run|exec|execute|shell|sudo|bash|rm)\b/iu,
    reply: () =>
      "I do not run commands: I only talk. To create an agent that runs one:\n" +
      "  bureau agent create demo --command 'echo hello; sleep 1000'",
  },
  {
    words: /\b(help|commands?|what can (you|i) do)\b|^\?+$/iu,
    reply: () =>
      "Here you can say: hello, who are you, time.\n" +
      "In a terminal, try:\n" +
      "  bureau status                  what runs here\n" +
      "  bureau agent logs greeter      what I print\n" +
      "  bureau agent create demo --command 'echo hello; sleep 1000'",
  },
  {
    words: /\b(who|what) (are|r) (you|u)\b|\byour name\b/iu,
    reply: ({ self }) =>
      `I am ${self}: a small program in a sandbox without network, keys or files of yours. ` +
      "My proxy holds my Matrix token and adds it to my requests; I never see it.",
  },
  {
    words: /\b(time|date|clock)\b/iu,
    reply: ({ nowMs }) =>
      `It is ${new Date(nowMs).toISOString().replace("T", " ").slice(0, 19)} UTC on this machine.`,
  },
  { words: /\b(thanks|thank you|thx)\b/iu, reply: () => "You are welcome." },
  { words: /\b(bye|goodbye|good night)\b/iu, reply: ({ sender }) => `Goodbye, ${shortName(sender)}.` },
  {
    words: /\b(hello|hi|hey|good (morning|day|evening))\b/iu,
    reply: ({ sender }) => `Hello, ${shortName(sender)}! Say "help" to see what we can do.`,
  },
];

export function replyTo(text: string, speaker: Speaker): string {
  const rule = rules.find(({ words }) => words.test(text.trim()));
  return (
    rule?.reply(speaker) ??
    'I am a simple greeter and did not understand that. Say "help", or create an agent of your own: bureau agent create --help'
  );
}
