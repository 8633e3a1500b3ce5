import { describe, expect, test } from "bun:test";
import {
  aliasOf,
  fleetLocalpart,
  fleetName,
  fleetOf,
  formatStateRef,
  LOCALPART_BYTES_MAX,
  localpartBytesMaxFor,
  localpartOf,
  machineLocalpart,
  namespaceOf,
  nameWithoutType,
  parseEventId,
  parseFleet,
  parseLocalpart,
  parseMachine,
  parseNamespace,
  parsePrincipal,
  parsePrincipalName,
  parseRoomAlias,
  parseRoomId,
  parseServerName,
  parseStateRef,
  parseUserId,
  principalLocalpart,
  principalNameOf,
  principalOfUser,
  principalType,
  RefError,
  rooms,
  SOCKET_PATH_BYTES_MAX,
  sanitised,
  serverOf,
  stateKeyOf,
  userIdOf,
  userOfStateKey,
} from "./refs.ts";

const refuses = (parser: (value: string) => unknown, values: string[]): void => {
  for (const value of values) expect(() => parser(value), JSON.stringify(value)).toThrow(RefError);
};
const accepts = (parser: (value: string) => string, values: string[]): void => {
  for (const value of values) expect(parser(value)).toBe(value);
};

describe("localparts", () => {
  test("hold lower-case letters, digits and . _ = - in segments", () => {
    accepts(parseLocalpart, ["a", "bureau/fleet/prod", "a.b_c=d-e/0", "-", "a./b."]);
  });

  test("refuse other bytes, empty, dotted and hidden segments", () => {
    refuses(parseLocalpart, ["", "A", "a b", "a+b", "a:b", "@a", "ä", "a\n", "a\u0000", "a\\b", "💡"]);
    refuses(parseLocalpart, ["/a", "a/", "a//b", "/", ".", "..", "a/..", "a/../b", "a/.hidden", ".a"]);
  });

  test("have at most 84 bytes", () => {
    expect(parseLocalpart("a".repeat(LOCALPART_BYTES_MAX))).toHaveLength(84);
    refuses(parseLocalpart, ["a".repeat(85)]);
  });

  test("leave room for the longest socket of the system's run folder", () => {
    const longest = `/run/bureau/${"a".repeat(LOCALPART_BYTES_MAX)}.admin.sock`;
    expect(longest.length).toBe(SOCKET_PATH_BYTES_MAX);
    expect(localpartBytesMaxFor("/run/bureau")).toBe(LOCALPART_BYTES_MAX);
    expect(localpartBytesMaxFor(`/${"ü".repeat(20)}`)).toBe(107 - 41 - 12);
    expect(localpartBytesMaxFor("/".repeat(200))).toBe(0);
  });
});

describe("identities", () => {
  test("a namespace is one segment within the localpart limit", () => {
    accepts(parseNamespace, ["bureau", "my-team"]);
    refuses(parseNamespace, ["a/b", "", ".a", "a".repeat(85)]);
  });

  test("a fleet is <namespace>/fleet/<name>", () => {
    accepts(parseFleet, ["bureau/fleet/prod"]);
    refuses(parseFleet, ["bureau", "bureau/fleet", "bureau/fleet/prod/x", "bureau/flit/prod"]);
  });

  test("a machine is <fleet>/machine/<name>", () => {
    accepts(parseMachine, ["bureau/fleet/prod/machine/gpu-box", "b/fleet/p/machine/rack/1"]);
    refuses(parseMachine, ["bureau/fleet/prod/agent/x", "bureau/fleet/prod/machine", "a/b/c/machine/d"]);
  });

  test("a principal is <fleet>/<type>/<name> of any type", () => {
    accepts(parsePrincipal, ["b/fleet/p/agent/x", "b/fleet/p/pipeline/a/b", "b/fleet/p/machine/m"]);
    refuses(parsePrincipal, ["b/fleet/p/agent", "agent/x", "b/c/p/agent/x"]);
  });

  test("a principal name has a type and a name", () => {
    const account = parsePrincipalName("agent/code/reviewer");
    expect([principalType(account), nameWithoutType(account)]).toEqual(["agent", "code/reviewer"]);
    expect(sanitised(account)).toBe("agent-code-reviewer");
    refuses(parsePrincipalName, ["agent", "", "agent/", "/agent"]);
  });

  test("builders and their inverses agree", () => {
    const fleet = fleetLocalpart(parseNamespace("bureau"), "prod");
    const machine = machineLocalpart(fleet, "gpu-box");
    const principal = principalLocalpart(fleet, "agent/code/reviewer");
    expect([fleet, machine, principal] as string[]).toEqual([
      "bureau/fleet/prod",
      "bureau/fleet/prod/machine/gpu-box",
      "bureau/fleet/prod/agent/code/reviewer",
    ]);
    expect([namespaceOf(machine), fleetName(fleet)] as string[]).toEqual(["bureau", "prod"]);
    expect([fleetOf(machine), fleetOf(principal)]).toEqual([fleet, fleet]);
    expect([principalNameOf(machine), principalNameOf(principal)] as string[]).toEqual([
      "machine/gpu-box",
      "agent/code/reviewer",
    ]);
    const user = userIdOf(principal, parseServerName("bureau.local:8448"));
    expect(principalOfUser(user)).toBe(principal);
    expect(stateKeyOf(user) as string).toBe("bureau/fleet/prod/agent/code/reviewer:bureau.local:8448");
    expect(userOfStateKey(stateKeyOf(user))).toBe(user);
  });

  test("builders refuse what the grammar refuses", () => {
    const ns = parseNamespace("bureau");
    expect(() => fleetLocalpart(ns, "a/b")).toThrow(RefError);
    expect(() => machineLocalpart(parseFleet("b/fleet/p"), "../x")).toThrow(RefError);
    expect(() => principalLocalpart(parseFleet("b/fleet/p"), "x".repeat(90))).toThrow(RefError);
    expect(() => principalOfUser(parseUserId("@alice:example.org"))).toThrow(RefError);
  });
});

describe("matrix names", () => {
  test("a user ID splits at its first colon, so the server may carry a port", () => {
    const user = parseUserId("@alice:example.org:8448");
    expect([localpartOf(user), serverOf(user)] as string[]).toEqual(["alice", "example.org:8448"]);
  });

  test("malformed user IDs, aliases, room and event IDs are refused", () => {
    refuses(parseUserId, [
      "alice:s",
      "@:s",
      "@:s:8448",
      "@alice",
      "@alice:",
      "@a:b c",
      `@${"a".repeat(255)}:s`,
      "",
    ]);
    refuses(parseRoomAlias, ["room:s", "#:s", "#room", "#room:", "@room:s"]);
    refuses(parseRoomId, ["room", "!", "! a", "#a:b", `!${"a".repeat(255)}`]);
    refuses(parseEventId, ["event", "$", "$a b", ""]);
    accepts(parseRoomId, ["!opaque:server", "!opaque"]);
    accepts(parseEventId, ["$abc"]);
    accepts(parseRoomAlias, ["#a/b:s:1"]);
  });

  test("a server name has no space, control character, @ or #", () => {
    accepts(parseServerName, ["bureau.local", "[::1]:8448", "localhost"]);
    refuses(parseServerName, ["", "a b", "a\tb", "a@b", "a#b", "a\u0000"]);
  });

  test("every room has the alias of the catalogue", () => {
    const ns = parseNamespace("bureau");
    const fleet = fleetLocalpart(ns, "prod");
    const machine = machineLocalpart(fleet, "box");
    const localparts: string[] = [
      rooms.space(ns),
      rooms.system(ns),
      rooms.template(ns),
      rooms.pipeline(ns),
      rooms.artifact(ns),
      rooms.dev(ns),
      rooms.fleet(fleet),
      rooms.fleetMachines(fleet),
      rooms.fleetServices(fleet),
      rooms.config(machine),
      rooms.ops(machine),
    ];
    expect(localparts).toEqual([
      "bureau",
      "bureau/system",
      "bureau/template",
      "bureau/pipeline",
      "bureau/artifact",
      "bureau/dev",
      "bureau/fleet/prod",
      "bureau/fleet/prod/machine",
      "bureau/fleet/prod/service",
      "bureau/fleet/prod/machine/box",
      "bureau/fleet/prod/machine/box/ops",
    ]);
    expect(aliasOf(rooms.lobby(ns), parseServerName("s")) as string).toBe("#bureau/lobby:s");
  });
});

describe("state references", () => {
  test("split at the last colon, with the server behind an @", () => {
    expect(parseStateRef("bureau/template:agent") as unknown).toEqual({
      room: "bureau/template",
      server: undefined,
      name: "agent",
    });
    expect(parseStateRef("bureau/template@example.org:8448:code/reviewer") as unknown).toEqual({
      room: "bureau/template",
      server: "example.org:8448",
      name: "code/reviewer",
    });
  });

  test("names are bound by the segment rules alone", () => {
    expect(parseStateRef("room:Name With Spaces").name).toBe("Name With Spaces");
    refuses(parseStateRef, ["room:", "room:.x", "room:a/../b", "room:a//b", "room:a/", "room"]);
    refuses(parseStateRef, [":name", "Room:name", "room@:name", "@server:name"]);
  });

  test("format is the inverse of parse", () => {
    for (const text of ["a/b:c", "a/b@s:c", "a@s:1:c/d"])
      expect(formatStateRef(parseStateRef(text))).toBe(text);
  });
});

test("an error names the kind, the value and the rule, and never the whole of a long value", () => {
  expect(() => parseFleet("nope")).toThrow('Invalid fleet "nope": a fleet is <namespace>/fleet/<name>');
  try {
    parseUserId("x".repeat(5_000));
    expect.unreachable();
  } catch (error) {
    expect((error as Error).message.length).toBeLessThan(250);
  }
});
