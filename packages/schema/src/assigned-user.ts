/** The principal that an entry of a machine's configuration names, also when the entry cannot be read otherwise. */
export const assignedUser = (entry: unknown): string | undefined =>
  typeof entry === "object" && entry !== null && "principal" in entry && typeof entry.principal === "string"
    ? entry.principal
    : undefined;
