/** What the directory service answers on its socket. */
import * as v from "valibot";
import { ref } from "./parse.ts";
import { parseUserId } from "./refs.ts";

const userId = ref(parseUserId);

const ListedServiceSchema = v.object({
  /** The principal's user ID, and its name in its fleet: `service/tickets`. */
  user_id: userId,
  name: v.string(),
  machine: v.optional(userId),
  capabilities: v.array(v.string()),
  /** Protocol → file name of its socket. */
  endpoints: v.record(v.string(), v.string()),
  description: v.optional(v.string()),
});
export type ListedService = v.InferOutput<typeof ListedServiceSchema>;

const FleetMachineSchema = v.object({
  user_id: userId,
  /** The machine's full localpart. */
  name: v.string(),
  /** Names of the services on it. */
  services: v.array(v.string()),
});
export type FleetMachine = v.InferOutput<typeof FleetMachineSchema>;

export const directoryRequests = {
  /** `capability`: only services that announce it. */
  services: v.object({ capability: v.optional(v.string()) }),
  machines: v.object({}),
} as const;

export const directoryResponses = {
  services: v.object({ services: v.array(ListedServiceSchema) }),
  machines: v.object({ machines: v.array(FleetMachineSchema) }),
} as const;
