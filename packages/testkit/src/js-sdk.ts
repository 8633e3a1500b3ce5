import { installOnce, runInstaller } from "./install-once.ts";

/** Needs Node 22. Our own packages do not, so `engines` in package.json does not ask for it. */
const VERSION = "43.0.0";

/** A folder whose `node_modules` holds matrix-js-sdk and what it needs; installed on first use. */
export const jsSdkPackages = (): Promise<string> =>
  installOnce(`js-sdk-${VERSION}`, (folder) =>
    runInstaller([
      ...[
        "npm",
        "install",
        "--prefix",
        folder,
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--loglevel=error",
      ],
      `matrix-js-sdk@${VERSION}`,
    ]),
  );
