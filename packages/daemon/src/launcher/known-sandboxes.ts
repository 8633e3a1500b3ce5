/**
 * The launcher's list of sandboxes, kept up to date. A launcher that knows the list we have sends only what changed since;
 * an older or a restarted one sends the whole list. A sandbox that did not change stays the same object.
 *
 * One list is requested at a time, so that each answer continues the list that its request named.
 */
import { BureauError } from "@bureau/kit/errors";
import type { SandboxList, SandboxStatus } from "@bureau/schema/launcher-ipc";
import type { PrincipalName } from "@bureau/schema/refs";
import type { Launcher } from "./launcher-client.ts";

export class KnownSandboxes {
  readonly #sandboxes = new Map<PrincipalName, SandboxStatus>();
  #revision: number | undefined;
  #received = 0;

  /** Of the list we have; undefined while we have none. */
  get revision(): number | undefined {
    return this.#revision;
  }

  /** How many sandboxes all answers contained. */
  get received(): number {
    return this.#received;
  }

  get all(): SandboxStatus[] {
    return [...this.#sandboxes.values()];
  }

  /** Requests the changes, and returns the answer. @throws BureauError; what is known then stays as it was */
  async update(launcher: Launcher): Promise<Omit<SandboxList, "sandboxes" | "removed">> {
    const since = this.#revision;
    const list = await launcher.call("list-sandboxes", since === undefined ? {} : { since });
    this.#take(list, since);
    return list;
  }

  #take({ revision, since, sandboxes, removed = [] }: SandboxList, asked: number | undefined): void {
    if (since === undefined) this.#sandboxes.clear();
    else if (since !== asked) {
      this.#revision = undefined;
      throw new BureauError(
        "failed",
        `Cannot read the launcher's list: it has changes since revision ${since}, and ${asked ?? "the whole list"} was requested`,
      );
    }
    for (const principal of removed) this.#sandboxes.delete(principal);
    for (const sandbox of sandboxes ?? []) this.#sandboxes.set(sandbox.principal, sandbox);
    this.#received += sandboxes?.length ?? 0;
    this.#revision = revision;
  }
}
