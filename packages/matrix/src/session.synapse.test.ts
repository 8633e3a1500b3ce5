import { startSynapse } from "@bureau/testkit/synapse";
import { defineSession } from "./testing/session-contract.ts";

defineSession("Synapse", startSynapse);
