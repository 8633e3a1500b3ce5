import { expect, test } from "bun:test";
import { asTyped, type CommandHost, homeNamedBy, typedAsRoot, typedCommand } from "./typed-command.ts";

const own = "/opt/build/bin/bureau";

function host(given: Partial<CommandHost> & { readonly paths?: Readonly<Record<string, string>> }) {
  const { paths = {}, ...rest } = given;
  const resolve = (path: string): string | undefined => paths[path] ?? (path === own ? own : undefined);
  return { env: {}, isRoot: false, which: () => undefined, own, resolve, ...rest };
}

test("a hint names the program by a path that works where no bureau is on PATH", () => {
  const bare = host({});
  expect(typedCommand(bare)).toBe(own);
  expect(asTyped("then: sudo bureau machine doctor --fix", () => bare)).toBe(
    `then: sudo ${own} machine doctor --fix`,
  );
  expect(asTyped("bureau up", () => bare)).toBe(`${own} up`);
});

test("a hint keeps the short name where it leads to this program, but gives sudo the path", () => {
  const linked = { "/var/bureau/bin/bureau": own };
  const member = host({ which: () => "/var/bureau/bin/bureau", paths: linked });
  expect(asTyped("bureau status, or sudo bureau machine doctor", () => member)).toBe(
    "bureau status, or sudo /var/bureau/bin/bureau machine doctor",
  );
  expect(typedCommand(host({ paths: linked }))).toBe("/var/bureau/bin/bureau");
  const another = { ...linked, "/usr/bin/bureau": "/usr/lib/other/bureau" };
  expect(typedCommand(host({ which: () => "/usr/bin/bureau", paths: another }))).toBe(
    "/var/bureau/bin/bureau",
  );
});

test("a hint repeats how the checkout's command was called, and gives root no sudo", () => {
  const checkout = host({ env: { BUREAU_COMMAND: "./bureau" } });
  expect(typedCommand(checkout)).toBe("./bureau");
  expect(typedAsRoot(checkout)).toBe("sudo ./bureau");
  expect(typedAsRoot({ ...checkout, isRoot: true })).toBe("./bureau");
});

test("a hint names the instance of --home, and root's hint names the system installation", () => {
  const named = host({ home: "/srv/my bureau" });
  expect(asTyped("bureau down, or sudo bureau machine doctor", () => named)).toBe(
    `BUREAU_HOME='/srv/my bureau' ${own} down, or sudo ${own} machine doctor`,
  );
  expect(homeNamedBy(["down", "--home", "/a"])).toBe("/a");
  expect(homeNamedBy(["down", "--home=/a"])).toBe("/a");
  for (const words of [["down"], ["matrix", "send", "lobby", "--", "--home", "/a"]])
    expect(homeNamedBy(words)).toBeUndefined();
});

test("help shows the command as typed on this host", () => {
  const checkout = host({ env: { BUREAU_COMMAND: "./bureau" } });
  expect(asTyped("bureau --help", () => checkout)).toBe("./bureau --help");
  expect(asTyped("Usage: bureau <command>", () => checkout)).toBe("Usage: ./bureau <command>");
});

test("a hint keeps prose, other programs and full paths as they are", () => {
  const bare = host({});
  for (const text of [
    "a bureau that only you can change",
    "There is no Bureau here",
    "sudo /var/bureau/bin/bureau machine doctor",
    "journalctl -u bureau-daemon",
    "bureau statusx",
  ])
    expect(asTyped(text, () => bare)).toBe(text);
});
