/** The contract on a real Synapse: our server and the production server behave alike. */
import { startSynapse } from "@bureau/testkit/synapse";
import { defineClientServerContract } from "./client-server-contract.ts";

defineClientServerContract("Synapse", startSynapse);
