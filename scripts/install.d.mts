/** Programs or absolute paths, each with the Debian package it comes with. */
export type Tools = readonly (readonly [program: string, packageName: string])[];
/** What the lab needs of the host. */
export const labTools: Tools;
/** Installs bubblewrap, tmux and `extra` where they are missing and apt may; else prints the command and exits. */
export function installTools(extra?: Tools): void;
