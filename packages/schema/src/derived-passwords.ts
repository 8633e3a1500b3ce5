/**
 * Passwords that follow from the registration token: the password is the SHA-256, in hex, of one of these texts (wire
 * facts, section 9.13). The holder of the token can log in to the account again; others cannot.
 */
import type { MachineLocalpart, PrincipalLocalpart } from "./refs.ts";

export const adminPasswordText = (registrationToken: string): string =>
  `bureau-admin-password:${registrationToken}`;

/** Of an account that an administrator made for a principal. */
export const principalPasswordText = (principal: PrincipalLocalpart, registrationToken: string): string =>
  `bureau-principal-password:${principal}:${registrationToken}`;

/** Of a machine that joins with the registration token instead of a bootstrap file. */
export const machinePasswordText = (machine: MachineLocalpart, registrationToken: string): string =>
  `bureau-machine-password:${machine}:${registrationToken}`;
