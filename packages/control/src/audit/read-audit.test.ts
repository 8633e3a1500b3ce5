import { startEmbeddedHomeserver } from "@bureau/testkit/embedded-homeserver";
import { defineAudit } from "./testing/audit-contract.ts";

defineAudit("the embedded homeserver", startEmbeddedHomeserver);
