/** Rules as an operator gives and takes them, and what a daemon and a running sandbox make of them. */
import { describe, expect, test } from "bun:test";
import { eventually, useBureau } from "@bureau/testkit/use-bureau";

const running = useBureau();

type Checked = { allowed: boolean; reason: string; rules: { kind: string; source: string }[]; fix: string[] };
const check = async (...act: string[]): Promise<Checked> => {
  const { stdout } = await running().run("auth", "check", ...act, "--json");
  return JSON.parse(stdout) as Checked;
};
const becomes = (allowed: boolean, ...act: string[]): Promise<Checked> =>
  eventually(async () => {
    const checked = await check(...act);
    return checked.allowed === allowed ? checked : undefined;
  });
/** The actions that the proxy of a sandbox grants, as a program inside reads them. */
const grantsInside = async (): Promise<string> =>
  (await running().json<{ output: string }>("agent", "logs", "agent/asker", "-n", "1")).output;

describe("authorization", () => {
  test("of an act is denied at first, and allowed once every command of its fix was typed", async () => {
    const command = `while :; do echo $(curl -s --unix-socket /run/bureau/proxy.sock http://p/v1/grants); sleep 0.2; done`;
    await running().json("agent", "create", "asker", "--command", command);
    const act = ["agent/asker", "interrupt", "agent/greeter"];
    const denied = await check(...act);
    expect(denied).toMatchObject({ allowed: false, reason: "no matching grant", rules: [] });
    expect(denied.fix).toHaveLength(2);
    for (const line of denied.fix) await running().json(...line.split(" ").slice(1));
    const allowed = await becomes(true, ...act);
    expect(allowed.rules.map(({ kind, source }) => `${kind} ${source}`)).toEqual([
      "grant temporal",
      "allowance principal",
    ]);
    await running().json("auth", "revoke", "agent/asker");
    expect((await becomes(false, ...act)).reason).toBe("no matching grant");
  }, 60_000);

  test("for a time reaches the proxy of a running sandbox and ends by itself", async () => {
    const before = (await running().json<{ pid: number }>("agent", "show", "asker")).pid;
    await running().json("auth", "grant", "asker", "matrix/join", "--for", "4s", "--ticket", "tkt-1");
    await eventually(async () => ((await grantsInside()).includes("tkt-1") ? true : undefined));
    expect((await check("agent/asker", "matrix/join")).allowed).toBe(true);
    expect((await becomes(false, "agent/asker", "matrix/join")).reason).toBe("matching grant expired");
    expect((await running().json<{ pid: number }>("agent", "show", "asker")).pid).toBe(before);
  }, 60_000);

  test("a ticket that another principal holds is refused", async () => {
    await running().json("auth", "grant", "asker", "matrix/join", "--for", "1h", "--ticket", "tkt-2");
    const refused = await running().run(
      ...["auth", "grant", "greeter", "matrix/join", "--for", "1h", "--ticket", "tkt-2"],
    );
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("bureau auth revoke --ticket tkt-2");
    const revoked = await running().json("auth", "revoke", "--ticket", "tkt-2");
    expect(revoked).toMatchObject({ revoked: ["tkt-2"] });
  });

  test("a time that is none, or longer than a year, is refused", async () => {
    for (const time of ["0s", "soon", "9007199254740991ms", "366d"]) {
      const refused = await running().run("auth", "grant", "asker", "matrix/join", "--for", time);
      expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining(`--for "${time}"`) });
    }
  });

  test("the exit code tells a denied act from a question that cannot be answered", async () => {
    expect((await running().run("auth", "check", "@stranger", "observe", "asker")).code).toBe(3);
    expect((await running().run("auth", "check", "@bureau-admin", "observe", "asker")).code).toBe(0);
    expect((await running().run("auth", "check", "asker")).code).toBe(2);
    expect((await running().run("auth", "check", "asker", "no action")).code).toBe(1);
  });
});
