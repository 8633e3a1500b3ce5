/** Which fleet a command is about. */
export const fleetFlag = {
  fleet: {
    type: "string",
    value: "FLEET",
    summary: "The fleet, NAMESPACE/fleet/NAME (default: this machine's, else bureau fleet use)",
  },
} as const;
