import { startSynapse } from "@bureau/testkit/synapse";
import { defineMembership } from "./membership-contract.ts";

defineMembership("Synapse", startSynapse);
