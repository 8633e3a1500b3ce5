/** The contract on a real Synapse: what our own server promises is what the production engine does. */
import { startSynapse } from "@bureau/testkit/synapse";
import { defineClientServerContract } from "./client-server-contract.ts";

defineClientServerContract("Synapse", startSynapse);
