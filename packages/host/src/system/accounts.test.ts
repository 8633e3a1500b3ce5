import { describe, expect, test } from "bun:test";
import { withoutMember, withoutName } from "./account-lines.ts";
import { sessionGroups } from "./accounts.ts";
import { parseAccounts } from "./parse-accounts.ts";
import { isUnfinished } from "./unfinished-account-file.ts";

const accounts = parseAccounts(
  "root:x:0:0:root:/root:/bin/sh\nbureau:x:995:993::/:/usr/sbin/nologin\nalice:x:1000:1000::/home/alice:/bin/sh\n",
  "root:x:0:\nbureau:x:993:\nbureau-operators:x:994:bureau,alice\nalice:x:1000:\n",
);

test("users are in the groups that list them, and in their primary group", () => {
  expect(accounts.isMember("alice", "bureau-operators")).toBe(true);
  expect(accounts.isMember("bureau", "bureau")).toBe(true);
  expect(accounts.isMember("root", "bureau-operators")).toBe(false);
  expect(accounts.isMember("alice", "no-such-group")).toBe(false);
  expect(accounts.isMember("mallory", "bureau-operators")).toBe(false);
});

test("shows the number of a user without an entry", () => {
  expect(accounts.userName(995)).toBe("bureau");
  expect(accounts.userName(4242)).toBe("4242");
  expect(accounts.groupName(4242)).toBe("4242");
});

test("reads the groups of our own session from the kernel", () => {
  expect(sessionGroups(process.getuid?.() ?? 0)).toEqual(expect.arrayContaining([process.getgid?.() ?? 0]));
});

describe("remains of a killed tool in the account files", () => {
  test("are distinguished from other users' files", () => {
    const left: [string, string][] = [
      [".#group213e6be1e55b83b3", "root:x:0:\n"],
      [".#gshadow0123456789abcdef", ""],
      ["passwd+", "root:x:0:"],
      ["shadow.lock", "4242\0"],
      ["group.lock", ""],
      ["subuid.17", "17\0"],
    ];
    for (const [name, text] of left) expect([name, isUnfinished(name, () => text)]).toEqual([name, true]);
    const kept: [string, string | undefined][] = [
      ["passwd", ""],
      ["passwd-", ""],
      [".#groups213e6be1e55b83b3", ""],
      [".#group213e", ""],
      ["group.bak", ""],
      ["passwd.20261128", "root:x:0:0:root:/root:/bin/sh\n"],
      ["group.1", undefined],
      [".pwd.lock", ""],
    ];
    for (const [name, text] of kept) expect([name, isUnfinished(name, () => text)]).toEqual([name, false]);
  });

  test("and in the shadow files are removed line by line", () => {
    expect(withoutName("bureau:!:20000::::::", "bureau")).toBeUndefined();
    expect(withoutName("bureau-operators:!::", "bureau")).toBe("bureau-operators:!::");
    expect(withoutMember("ops:!::bureau,alice,bob", "ops", "alice")).toBe("ops:!::bureau,bob");
    expect(withoutMember("ops:!:alice:alice", "ops", "alice")).toBe("ops:!:alice:");
    expect(withoutMember("other:!::alice", "ops", "alice")).toBe("other:!::alice");
  });
});
