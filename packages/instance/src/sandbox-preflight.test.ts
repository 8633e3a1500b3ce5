import { describe, expect, test } from "bun:test";
import { BureauError } from "@bureau/kit/errors";
import { bwrapFault, checkSandbox, type Host, thisHost } from "./sandbox-preflight.ts";

const debian = 'ID=debian\nVERSION_ID="12"\n';

/** A host on which everything works, except the changes of the test. */
function host(change: Partial<Host> & { refuse?: string } = {}): Host {
  return {
    run: (command) => {
      if (command[1] === "--version") return { code: 0, stdout: "bubblewrap 0.8.0\n", stderr: "" };
      if (command[1] === "-V") return { code: 0, stdout: "tmux 3.3a\n", stderr: "" };
      return change.refuse === undefined
        ? { code: 0, stdout: "sandboxed\n", stderr: "" }
        : { code: 1, stdout: "", stderr: change.refuse };
    },
    sysctl: () => undefined,
    osRelease: debian,
    processesAreHidden: false,
    ...change,
  };
}

function failure(host: Host): BureauError {
  try {
    checkSandbox(host);
  } catch (error) {
    if (error instanceof BureauError) return error;
    throw error;
  }
  throw new Error("the preflight passed");
}

describe("the sandbox preflight", () => {
  test("creates a sandbox on this machine", () => {
    expect(checkSandbox(thisHost).bwrap).toMatch(/^\d+\.\d+$/);
  });

  test("a missing program names the command that installs it", () => {
    const without = (program: string) =>
      host({ run: (command) => (command[0] === program ? undefined : host().run(command)) });
    expect(failure(without("bwrap")).hint).toContain("apt-get install -y bubblewrap");
    expect(failure(without("tmux")).hint).toContain("apt-get install -y tmux");
    const fedora = { ...without("tmux"), osRelease: "ID=fedora\n" };
    expect(failure(fedora).hint).toContain("dnf install -y tmux");
  });

  test("refuses a program that is too old, with both versions", () => {
    const old = host({
      run: (command) =>
        command[1] === "--version"
          ? { code: 0, stdout: "bubblewrap 0.4.1", stderr: "" }
          : host().run(command),
    });
    expect(failure(old).message).toContain("0.4.1");
    expect(failure(old).message).toContain("0.5");
  });

  test("reports a version without a security fix, with the distribution's own remedy", () => {
    for (const fixed of ["0.12", "0.13", "1.0"]) expect(bwrapFault(host(), fixed)).toBeUndefined();
    expect(bwrapFault(host(), "0.8")?.fault).toContain("CVE-2026-87766");
    expect(bwrapFault(host(), "0.8")?.hint).toContain("upgrade to Debian 13");
    const trixie = host({ osRelease: 'ID=debian\nVERSION_ID="13"\n' });
    expect(bwrapFault(trixie, "0.11")?.hint).toContain("sudo apt-get install -y bubblewrap");
    expect(bwrapFault(host({ osRelease: "ID=fedora\n" }), "0.11")?.hint).toContain("dnf install");
  });

  test.each([
    ["kernel/apparmor_restrict_unprivileged_userns", "1", "AppArmor", "apparmor_parser"],
    ["kernel/unprivileged_userns_clone", "0", "forbids", "kernel.unprivileged_userns_clone=1"],
    ["user/max_user_namespaces", "0", "limit", "user.max_user_namespaces"],
  ])("explains a refusal with %s = %s", (key, value, reason, remedy) => {
    const refused = failure(
      host({
        refuse: "bwrap: setting up uid map: Permission denied",
        sysctl: (path) => (path === key ? value : undefined),
      }),
    );
    expect(refused.code).toBe("unsupported");
    expect(refused.message).toContain("setting up uid map");
    expect(refused.message).toContain(reason);
    expect(refused.hint).toContain(remedy);
  });

  test("reports hidden processes before it creates anything", () => {
    const refused = failure(host({ processesAreHidden: true, refuse: "bwrap: no" }));
    expect(refused.message).toContain("hidepid");
    expect(refused.hint).toContain("gid=proc");
  });

  test("an unknown refusal shows the output of bwrap", () => {
    expect(failure(host({ refuse: "bwrap: no" })).message).toContain("bwrap: no");
  });
});
