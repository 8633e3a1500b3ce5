import { startEmbeddedHomeserver } from "@bureau/testkit/embedded-homeserver";
import { defineNamespaceSetup } from "./namespace-setup-contract.ts";

defineNamespaceSetup("the embedded homeserver", startEmbeddedHomeserver);
