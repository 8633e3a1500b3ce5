import { startSynapse } from "@bureau/testkit/synapse";
import { defineSession } from "./session-contract.ts";

defineSession("Synapse", startSynapse);
