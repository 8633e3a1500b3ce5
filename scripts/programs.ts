/** The programs of Bureau and where each begins: what the build makes bundles of. */
export const programs = {
  bureau: "packages/cli/src/main.ts",
  "bureau-supervisor": "packages/instance/src/supervisor-main.ts",
  "bureau-launcher": "packages/launcher/src/main.ts",
  "bureau-first-boot": "packages/first-boot/src/main.ts",
  "bureau-daemon": "packages/daemon/src/main.ts",
  "bureau-proxy": "packages/proxy/src/main.ts",
  "bureau-homeserver": "packages/homeserver/src/main.ts",
  "bureau-bridge": "packages/in-sandbox/src/bridge-main.ts",
  "bureau-greeter": "packages/in-sandbox/src/greeter-main.ts",
  "bureau-service-directory": "packages/services/directory/src/main.ts",
  "bureau-service-sample": "packages/services/sample/src/main.ts",
  "bureau-call": "packages/in-sandbox/src/call-main.ts",
} as const;

/** Program → modules that are bundles beside its `main.js`, which loads them only when needed. */
export const laterBundles: Readonly<Record<string, readonly string[]>> = {
  bureau: ["packages/cli/src/program.ts", "packages/cli/src/read-program.ts"],
};
