import { expect, test } from "bun:test";
import { isUnfinishedAccountFile } from "./account-changes.ts";
import { parseAccounts, sessionGroups } from "./accounts.ts";

const accounts = parseAccounts(
  "root:x:0:0:root:/root:/bin/sh\nbureau:x:995:993::/:/usr/sbin/nologin\nalice:x:1000:1000::/home/alice:/bin/sh\n",
  "root:x:0:\nbureau:x:993:\nbureau-operators:x:994:bureau,alice\nalice:x:1000:\n",
);

test("users are in the groups that name them, and in their first one", () => {
  expect(accounts.isMember("alice", "bureau-operators")).toBe(true);
  expect(accounts.isMember("bureau", "bureau")).toBe(true);
  expect(accounts.isMember("root", "bureau-operators")).toBe(false);
  expect(accounts.isMember("alice", "no-such-group")).toBe(false);
  expect(accounts.isMember("mallory", "bureau-operators")).toBe(false);
});

test("a number that nobody has is shown as it is", () => {
  expect(accounts.userName(995)).toBe("bureau");
  expect(accounts.userName(4242)).toBe("4242");
  expect(accounts.groupName(4242)).toBe("4242");
});

test("the groups of our own session are the kernel's", () => {
  expect(sessionGroups(process.getuid?.() ?? 0)).toEqual(expect.arrayContaining([process.getgid?.() ?? 0]));
});

test("what a killed tool left in /etc is told from what is somebody's", () => {
  for (const name of [
    ".#group213e6be1e55b83b3",
    ".#gshadow0123456789abcdef",
    "passwd+",
    "shadow.lock",
    "subuid.17",
  ])
    expect([name, isUnfinishedAccountFile(name)]).toEqual([name, true]);
  for (const name of [
    "passwd",
    "passwd-",
    ".#groups213e6be1e55b83b3",
    ".#group213e",
    "group.bak",
    "shadow.lock.d",
    ".pwd.lock",
  ])
    expect([name, isUnfinishedAccountFile(name)]).toEqual([name, false]);
});
