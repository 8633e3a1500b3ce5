/** What the tests against a real Synapse need from PyPI, before any of them waits for it; the first time takes minutes. */
import { nioPackages, synapsePython } from "@bureau/testkit/synapse";

console.log(await synapsePython());
console.log(await nioPackages());
