/**
 * The lab's network: one bridge, and for each machine a network namespace with an address on it. It exists only in the
 * lab's enclosure, so every lab has the same addresses. There is no way out of it.
 */
import { BureauError } from "@bureau/kit/errors";
import type { Enclosure } from "./enclosure.ts";

export type LabNetwork = {
  /** Makes the namespace `name`, with the next free address. */
  join(name: string): Promise<string>;
  /** Pulls the cable of `name`, or plugs it in. */
  setCable(name: string, plugged: boolean): Promise<void>;
};

const subnet = "10.99.0";
const bridge = "lab";
/** The first address a machine gets; those below are the bridge's and kept free. */
const FIRST = 10;
const LAST = 250;

export async function openNetwork(enclosure: Enclosure): Promise<LabNetwork> {
  const ip = (...args: string[]): Promise<string> => enclosure.executeOk(["ip", ...args]);
  await ip("link", "add", bridge, "type", "bridge");
  await ip("address", "add", `${subnet}.1/24`, "dev", bridge);
  await ip("link", "set", bridge, "up");
  // Refuses connections to the outside at once, instead of a timeout.
  await ip("route", "add", "unreachable", "default");
  await enclosure.executeOk(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
  const cables = new Map<string, string>();
  let next = FIRST;
  return {
    async join(name) {
      if (next > LAST)
        throw new BureauError("too-large", `The lab has ${LAST - FIRST + 1} addresses, and all are taken`);
      const index = next++;
      const address = `${subnet}.${index}`;
      const cable = `to-${index}`;
      await ip("netns", "add", name);
      await ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name);
      await ip("link", "set", cable, "master", bridge, "up");
      await ip("-n", name, "link", "set", "lo", "up");
      await ip("-n", name, "address", "add", `${address}/24`, "dev", "eth0");
      await ip("-n", name, "link", "set", "eth0", "up");
      await ip("-n", name, "route", "add", "default", "via", `${subnet}.1`);
      cables.set(name, cable);
      return address;
    },
    async setCable(name, plugged) {
      await ip("link", "set", cables.get(name) ?? "", plugged ? "up" : "down");
    },
  };
}
