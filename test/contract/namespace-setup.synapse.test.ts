import { startSynapse } from "@bureau/testkit/synapse";
import { defineNamespaceSetup } from "./namespace-setup-contract.ts";

defineNamespaceSetup("Synapse", startSynapse);
