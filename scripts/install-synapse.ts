/** What the Synapse suite needs from PyPI and npm, before any test waits for it; the first time takes minutes. */
import { jsSdkPackages } from "@bureau/testkit/js-sdk";
import { nioPackages, synapsePython } from "@bureau/testkit/synapse";

console.log(await synapsePython());
console.log(await nioPackages());
console.log(await jsSdkPackages());
