import { describe, expect, test } from "bun:test";
import { formatTarget, looksLikeTarget, parseTarget } from "./target.ts";

describe("a target", () => {
  test("is a host, with an optional user and port", () => {
    expect(parseTarget("ssh://new-host")).toEqual({ kind: "ssh", host: "new-host" });
    expect(parseTarget("ssh://root@10.0.0.7:2222")).toEqual({
      kind: "ssh",
      host: "10.0.0.7",
      user: "root",
      port: 2222,
    });
    expect(parseTarget("ssh://a.b-c_d@host.example/")).toEqual({
      kind: "ssh",
      host: "host.example",
      user: "a.b-c_d",
    });
    expect(parseTarget("local")).toEqual({ kind: "local" });
  });

  test("may be an IPv6 address in brackets, with its zone", () => {
    expect(parseTarget("ssh://root@[fe80::1%eth0]:22")).toEqual({
      kind: "ssh",
      host: "fe80::1%eth0",
      user: "root",
      port: 22,
    });
    expect(() => parseTarget("ssh://root@fe80::1")).toThrow("is not a target");
  });

  test("formats as it was typed", () => {
    for (const typed of ["local", "ssh://h", "ssh://root@h:22", "ssh://u@[::1]:2022"])
      expect(formatTarget(parseTarget(typed))).toBe(typed);
  });

  test("with anything that ssh would read as an option, or a shell as more, is refused", () => {
    for (const typed of [
      "ssh://-oProxyCommand=touch@x",
      "ssh://-oProxyCommand=x",
      "ssh://root@-J",
      "ssh://-l@host",
      "ssh://host;id",
      "ssh://host$(id)",
      "ssh://ho st",
      "ssh://a@b@host",
      "ssh://host\n",
      "ssh://[::1",
      "ssh://[host]",
      "ssh://",
      "ssh://@host",
      "ssh://root@",
    ])
      expect(() => parseTarget(typed), typed).toThrow("is not a target");
  });

  test("with a path, a wrong port or another scheme is refused", () => {
    for (const typed of ["ssh://host/etc", "ssh://host:0", "ssh://host:65536", "ssh://host:x", "ssh://host:"])
      expect(() => parseTarget(typed), typed).toThrow("is not a target");
    for (const typed of ["host", "root@host", "http://host", "LOCAL"])
      expect(() => parseTarget(typed), typed).toThrow("is not a target");
  });

  test("with a password is refused without repeating the password", () => {
    for (const password of ["hunter2", "hun:ter2", "hun@ter2"]) {
      const refused = (): unknown => parseTarget(`ssh://root:${password}@host`);
      expect(refused).toThrow("is not a target");
      expect(refused).not.toThrow("ter2");
    }
    expect(() => parseTarget("ssh://root:hunter2@host")).toThrow("a password does not belong");
  });

  test("is distinguished from a machine's name", () => {
    expect(["local", "ssh://x", "ssh:x"].every(looksLikeTarget)).toBe(true);
    expect(["gpu-box", "bureau/fleet/prod/machine/x", "sshx"].some(looksLikeTarget)).toBe(false);
  });
});
