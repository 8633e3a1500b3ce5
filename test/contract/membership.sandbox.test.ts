import { startEmbeddedHomeserver } from "@bureau/testkit/embedded-homeserver";
import { defineMembership } from "./membership-contract.ts";

defineMembership("the embedded homeserver", startEmbeddedHomeserver);
