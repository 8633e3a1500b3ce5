import { describe, expect, test } from "bun:test";
import { systemLayout } from "@bureau/os/layout";
import { sysusersFile, tmpfilesFile } from "./host-files.ts";
import { hostFolders } from "./host-folders.ts";
import { hostSockets } from "./host-sockets.ts";
import { unitFiles } from "./unit-files.ts";

const textOf = (name: string): string => unitFiles.find((unit) => unit.name === name)?.text ?? "";

describe("the system installation", () => {
  test("has the specification's folders with its owners and modes, and tmpfiles makes each of them", () => {
    const table = new Map(
      hostFolders.map(({ path, owner, group, mode }) => [path, `${owner}:${group} ${mode.toString(8)}`]),
    );
    expect(table.get("/etc/bureau")).toBe("root:root 755");
    expect(table.get("/run/bureau")).toBe("bureau:bureau-operators 750");
    expect(table.get("/var/lib/bureau")).toBe("bureau:bureau 700");
    expect(table.get("/var/bureau/workspace")).toBe("bureau:bureau 755");
    expect(table.get("/var/bureau/cache")).toBe("bureau:bureau 755");
    for (const path of table.keys()) expect(tmpfilesFile.text).toContain(`\nd ${path} 0`);
  });

  test("contains no program of root that the system user may change", () => {
    const ours = hostFolders.filter(({ owner }) => owner !== "root").map(({ path }) => path);
    for (const { name, text } of unitFiles) {
      const runs = [...text.matchAll(/^Exec\w+=[-+!:@]*(\S+)/gm)].map(([, path = ""]) => path);
      if (runs.some((path) => ours.some((folder) => path.startsWith(`${folder}/`))))
        expect({ name, text }).toMatchObject({ text: expect.stringContaining("\nUser=bureau\n") });
      expect(text).not.toMatch(/^Exec\w+=\+/m);
    }
  });

  test("opens observe.sock to operators, and launcher.sock only to the system user", () => {
    const sockets = hostSockets.map((socket) => ({ ...socket, path: socket.pathIn(systemLayout) }));
    const table = new Map(sockets.map(({ path, owner, group }) => [path, `${owner}:${group}`]));
    expect(table.get("/run/bureau/launcher.sock")).toBe("bureau:bureau");
    expect(table.get("/run/bureau/observe.sock")).toBe("bureau:bureau-operators");
    for (const { path, group, modes } of sockets.filter(({ path: at }) => !at.endsWith("tmux.sock"))) {
      const unit = unitFiles.find(({ text }) => text.includes(`ListenStream=${path}\n`));
      expect(unit?.text).toContain(`SocketGroup=${group}\n`);
      expect(unit?.text).toContain(`SocketMode=0${modes[0]?.toString(8)}\n`);
    }
  });

  test("gives the launcher no network, and the machine's key to the launcher alone", () => {
    expect(textOf("bureau-launcher.service")).toContain("\nPrivateNetwork=yes\n");
    expect(textOf("bureau-launcher.service")).toContain("\nRestrictAddressFamilies=AF_UNIX\n");
    for (const { name, text } of unitFiles) {
      if (name === "bureau-launcher.service") expect(text).toContain("LoadCredentialEncrypted=machine-key:");
      else {
        expect(text).not.toContain("LoadCredential");
        if (name.endsWith(".service")) expect(text).toMatch(/^InaccessiblePaths=-\/run\/credentials/m);
      }
    }
  });

  test("does not restart a machine that was removed from its fleet", () => {
    for (const name of ["bureau-launcher.service", "bureau-daemon.service"])
      expect(textOf(name)).toContain("\nRestartPreventExitStatus=77\n");
  });

  test("makes the system user a member of the operators' group", () => {
    expect(sysusersFile.text).toContain("\nm bureau bureau-operators\n");
  });
});
