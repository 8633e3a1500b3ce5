import { describe, expect, test } from "bun:test";
import { formatMachineConf, parseMachineConf } from "./machine-conf.ts";

const text = `# a comment

BUREAU_HOMESERVER_URL=http://matrix.internal:6167/
BUREAU_MACHINE_NAME=bureau/fleet/prod/machine/sharkbox
BUREAU_SERVER_NAME=bureau.local
BUREAU_FLEET=bureau/fleet/prod
`;

describe("machine.conf", () => {
  test("is read with defaults for user and group, and written back the same", () => {
    const conf = parseMachineConf(text, "machine.conf");
    expect(conf).toMatchObject({ homeserverUrl: "http://matrix.internal:6167", systemUser: "bureau" });
    expect(parseMachineConf(formatMachineConf(conf), "machine.conf")).toEqual(conf);
    expect(formatMachineConf(conf)).not.toContain("BUREAU_SYSTEM_USER");
    expect(formatMachineConf({ ...conf, systemUser: "b2" })).toContain("BUREAU_SYSTEM_USER=b2");
  });

  test("a missing key, a wrong value, a malformed line, and another fleet's machine are refused by name", () => {
    const cases: [string, string][] = [
      [text.replace(/BUREAU_FLEET=.*\n/, ""), "has no BUREAU_FLEET"],
      [text.replace("http://matrix.internal:6167/", "matrix"), "wrong BUREAU_HOMESERVER_URL"],
      [`${text}hello\n`, 'line 7: "hello" is not KEY=VALUE'],
      [text.replace("BUREAU_FLEET=bureau/fleet/prod", "BUREAU_FLEET=bureau/fleet/dev"), "contradicts itself"],
    ];
    for (const [bad, said] of cases) expect(() => parseMachineConf(bad, "machine.conf")).toThrow(said);
  });
});
