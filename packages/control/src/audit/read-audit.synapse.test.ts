import { startSynapse } from "@bureau/testkit/synapse";
import { defineAudit } from "./testing/audit-contract.ts";

defineAudit("Synapse", startSynapse);
