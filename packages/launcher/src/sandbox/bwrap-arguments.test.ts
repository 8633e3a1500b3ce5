import { describe, expect, test } from "bun:test";
import type { SandboxSpec } from "@bureau/schema/launcher-ipc";
import { type BwrapContext, bwrapArguments } from "./bwrap-arguments.ts";
import type { ResolvedMount } from "./mount-policy.ts";

const context: BwrapContext = {
  hostUid: 1001,
  hostGid: 1002,
  hostname: "agent-x",
  mounts: [],
  scratch: undefined,
  files: [{ source: "/d/etc/passwd", dest: "/etc/passwd" }],
  procMasks: { readOnly: ["/proc/sys"], folders: ["/proc/fs"], files: ["/proc/keys"] },
  empty: "/d/empty",
  hostTools: [
    { kind: "bind", path: "/usr" },
    { kind: "link", path: "/bin", target: "usr/bin" },
  ],
  environmentLinks: [],
  inside: "/d/inside",
  serves: false,
  buildDir: "/opt/bureau",
  environment: { HOME: "/workspace", PATH: "/usr/bin" },
  tmpfsBytes: 1_000_000,
  memoryBytes: 2_000_000,
};
const spec = (extra: Partial<SandboxSpec> = {}): SandboxSpec => ({ command: ["true"], ...extra });
/** Joined to a string, to test that "a follows b". */
const line = (extra: Partial<SandboxSpec> = {}, over: Partial<BwrapContext> = {}): string =>
  ` ${bwrapArguments(spec(extra), { ...context, ...over }).join(" ")} `;

describe("bubblewrap's arguments", () => {
  test("unshare everything by default", () => {
    for (const flag of ["user", "pid", "net", "ipc", "uts", "cgroup-try"])
      expect(line()).toContain(` --unshare-${flag} `);
    expect(line()).toContain(" --hostname agent-x ");
  });

  test("unshare omitted namespaces, and share only those that are explicitly false", () => {
    const args = line({ namespaces: { net: false } });
    expect(args).not.toContain("--unshare-net");
    for (const flag of ["pid", "ipc", "uts"]) expect(args).toContain(` --unshare-${flag} `);
    const shared = line({ namespaces: { ipc: false, uts: false } });
    expect(shared).not.toContain("--unshare-ipc");
    expect(shared).not.toContain("--hostname");
  });

  test("die with the parent and drop every capability for every spec", () => {
    const args = line({ security: { die_with_parent: false, new_session: false, no_new_privs: false } });
    expect(args).toContain(" --die-with-parent ");
    expect(args).toContain(" --cap-drop ALL ");
    expect(args).not.toContain("--new-session");
  });

  test("leave a program its terminal by default", () => {
    expect(line()).not.toContain("--new-session");
    expect(line({ security: { new_session: true } })).toContain("--new-session");
  });

  test("mount the host's settings, then empty files, over the sandbox's own /proc", () => {
    const hidden = "--perms 0555 --size 4096 --tmpfs /proc/fs --remount-ro /proc/fs";
    expect(line()).toContain(
      ` --proc /proc --dev /dev --ro-bind /proc/sys /proc/sys ${hidden} --ro-bind /d/empty /proc/keys `,
    );
  });

  test("refuse to run unsandboxed or among the host's processes", () => {
    expect(() => line({ isolation: "none" })).toThrow('isolation "none"');
    expect(() => line({ namespaces: { pid: false } })).toThrow("namespaces.pid");
    expect(() => line({ isolation: "standard" })).not.toThrow();
  });

  test("keep the caller's ids, but make root an ordinary user", () => {
    expect(line()).toContain(" --uid 1001 --gid 1002 ");
    expect(line({}, { hostUid: 0, hostGid: 0 })).toContain(" --uid 1000 --gid 1000 ");
  });

  test("put Bureau's own mounts after the template's, so that none covers them", () => {
    const args = line(
      { create_dirs: ["/data"] },
      { mounts: [{ type: "bind", source: "/a", dest: "/run/x", writable: true }] },
    );
    expect(args).toContain(
      " --bind /a /run/x --perms 0755 --size 1000000 --tmpfs /data --ro-bind /d/inside /run/bureau ",
    );
    expect(args).not.toContain("/run/bureau/listen");
    expect(args).toContain(" --ro-bind /opt/bureau /run/bureau/programs ");
  });

  test("give only a service a small tmpfs for its socket", () => {
    expect(line({}, { serves: true })).toContain(
      " --ro-bind /d/inside /run/bureau --perms 0755 --size 1048576 --tmpfs /run/bureau/listen ",
    );
  });

  test("mount read-only unless the mount is writable, and keep the template's order", () => {
    const args = line(
      {},
      {
        mounts: [
          { type: "bind", source: "/b", dest: "/two", writable: false },
          { type: "tmpfs", dest: "/three", sizeBytes: 4096, mode: "0700" },
          { type: "bind", source: "/a", dest: "/one", writable: true },
        ],
      },
    );
    expect(args).toContain(" --ro-bind /b /two --perms 0700 --size 4096 --tmpfs /three --bind /a /one ");
  });

  test("cover the hidden paths of a mount with an empty read-only folder", () => {
    const ssl = { type: "bind", source: "/etc/ssl", dest: "/etc/ssl", writable: false, hidden: ["private"] };
    expect(line({}, { mounts: [ssl as ResolvedMount] })).toContain(
      " --ro-bind /etc/ssl /etc/ssl --perms 0555 --size 4096 --tmpfs /etc/ssl/private --remount-ro /etc/ssl/private ",
    );
  });

  test("give every writable file system a size limit", () => {
    const args = line(
      { create_dirs: ["/tmp", "/var/tmp", "/data/a", "/run/bureau", "/workspace", "/data/a/b", "/m"] },
      {
        mounts: [
          { type: "tmpfs", dest: "/small", sizeBytes: 4096, mode: "0700" },
          { type: "tmpfs", dest: "/large", sizeBytes: 1e12 },
          { type: "tmpfs", dest: "/m/below" },
        ],
      },
    );
    for (const match of args.matchAll(/(?:--size (\d+) )?--tmpfs (\S+)/g))
      expect({ dest: match[2], bytes: Number(match[1]) <= context.memoryBytes }).toEqual({
        dest: match[2],
        bytes: true,
      });
    expect(args).toContain(" --size 4096 --tmpfs /small ");
    expect(args).toContain(" --dir /tmp --perms 0755 --size 1000000 --tmpfs /var/tmp ");
    // Mount points are created inside their mount; nothing is mounted over a folder that holds one.
    expect(args).toContain(" --dir /run/bureau --dir /workspace --dir /data/a/b --dir /m ");
    expect(args).toContain(" --tmpfs /dev/shm ");
    expect(args).toContain(" --remount-ro /dev --remount-ro / --clearenv ");
  });

  test("make an empty home unless a mount provides one", () => {
    expect(line()).toContain(" --perms 0700 --size 1000000 --tmpfs /workspace ");
    const provided = line(
      {},
      { mounts: [{ type: "bind", source: "/w", dest: "/workspace", writable: true }] },
    );
    expect(provided).not.toContain("--tmpfs /workspace");
    expect(line()).toContain(" --chdir /workspace ");
  });

  test("offer an environment from the Nix store instead of the host's tools", () => {
    const args = line(
      { environment_path: "/nix/store/abc-env" },
      {
        environmentLinks: [{ target: "/nix/store/abc-env/bin/sh", dest: "/bin/sh" }],
      },
    );
    expect(args).toContain(" --ro-bind /nix/store /nix/store --symlink /nix/store/abc-env/bin/sh /bin/sh ");
    expect(args).not.toContain("--ro-bind /usr /usr");
    const own = line(
      { environment_path: "/nix/store/abc-env" },
      {
        mounts: [{ type: "bind", source: "/nix/store", dest: "/nix/store", writable: false }],
      },
    );
    expect(own.split("/nix/store /nix/store")).toHaveLength(2);
  });

  test("show the Nix store when Bureau's own programs are links into it", () => {
    const inStore = { buildDir: "/nix/store/abc-bureau-host-env" };
    expect(line({}, inStore)).toContain(" --ro-bind /nix/store /nix/store ");
    expect(line()).not.toContain("/nix/store");
    const mounts = [{ type: "bind", source: "/nix/store", dest: "/nix/store", writable: false }] as const;
    expect(line({}, { ...inStore, mounts }).split("/nix/store /nix/store")).toHaveLength(2);
  });

  test("clear the environment before setting it", () => {
    const args = line();
    expect(args.indexOf("--clearenv")).toBeLessThan(args.indexOf("--setenv"));
    expect(args).toContain(" --setenv PATH /usr/bin ");
  });

  test("mount scratch only for a project, and not over the template's own", () => {
    expect(line()).not.toContain("/scratch");
    expect(line({}, { scratch: "/w/p/.scratch" })).toContain(" --bind /w/p/.scratch /scratch ");
    const own = line({}, { scratch: "/w/p/.scratch", mounts: [{ type: "tmpfs", dest: "/scratch" }] });
    expect(own).not.toContain("/w/p/.scratch");
  });
});
