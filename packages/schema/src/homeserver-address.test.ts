import { expect, test } from "bun:test";
import {
  parseHomeserverAddress,
  parseListenAddress,
  parseSocketUrl,
  socketOf,
  urlAt,
} from "./homeserver-address.ts";

test("a homeserver's address is a URL or a socket; slashes at its end are dropped", () => {
  expect(parseHomeserverAddress("https://matrix.example.org/")).toBe("https://matrix.example.org");
  expect(parseHomeserverAddress("http://h:6167/behind/")).toBe("http://h:6167/behind");
  expect(parseHomeserverAddress("unix:/home/a/run/homeserver.sock")).toBe("unix:/home/a/run/homeserver.sock");
  expect(socketOf("unix:/run/hs.sock")).toBe("/run/hs.sock");
  expect(socketOf("http://h")).toBeUndefined();
});

test.each([
  ["matrix", "http or https"],
  ["ftp://h", "http or https"],
  ["unix:relative.sock", "absolute path"],
  ["unix:/folder/", "absolute path"],
  ["unix://host/path", "absolute path"],
  [`unix:/${"a".repeat(107)}`, "at most 107 bytes"],
  ["http://a:secret@h", "user or password"],
  ["http://h/?q=1", "query or a fragment"],
])("%p is refused", (text, why) => {
  expect(() => parseHomeserverAddress(text)).toThrow(why);
});

test("a refused address never quotes the password in it", () => {
  expect(() => parseHomeserverAddress("http://a:secret@h")).not.toThrow("secret");
});

test("a listen address is a host and port, or a socket", () => {
  expect(parseListenAddress("[::1]:80")).toEqual({ kind: "tcp", hostname: "::1", port: 80 });
  expect(parseListenAddress("0.0.0.0:6167")).toEqual({ kind: "tcp", hostname: "0.0.0.0", port: 6167 });
  expect(parseListenAddress("unix:/a/b")).toEqual({ kind: "unix", path: "/a/b" });
  for (const text of ["6167", "h:99999", "h:", ":1", "unix:b"])
    expect(() => parseListenAddress(text)).toThrow("Invalid");
});

test("the URL of a path at a socket holds the socket, and is taken apart again", () => {
  const url = urlAt("unix:/run/a b/hs.sock", "/_matrix/client/versions?x=%2F");
  expect(url).toBe("http+unix://%2Frun%2Fa%20b%2Fhs.sock/_matrix/client/versions?x=%2F");
  expect(parseSocketUrl(url)).toEqual({
    address: "unix:/run/a b/hs.sock",
    path: "/_matrix/client/versions?x=%2F",
  });
  expect(urlAt("https://h:1/", "/p")).toBe("https://h:1/p");
  expect(parseSocketUrl("https://h:1/p")).toBeUndefined();
  expect(() => parseSocketUrl("http+unix://relative/p")).toThrow("absolute path");
});
