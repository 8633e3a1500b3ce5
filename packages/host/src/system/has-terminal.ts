import { closeSync, constants, openSync } from "node:fs";

/** Whether sudo can ask for a password: it asks on the controlling terminal, even when standard input is a pipe. */
export function hasTerminal(): boolean {
  try {
    closeSync(openSync("/dev/tty", constants.O_RDWR | constants.O_NOCTTY));
    return true;
  } catch {
    return false;
  }
}
