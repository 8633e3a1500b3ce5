/** Lines of account files without a name. */

/** Undefined when the line of an account file is about `name`. */
export const withoutName = (line: string, name: string): string | undefined =>
  line.startsWith(`${name}:`) ? undefined : line;

/** The line of a group's shadow without one of its members (gshadow(5)). */
export function withoutMember(line: string, group: string, member: string): string {
  const [name, password, administrators, members] = line.split(":");
  if (name !== group || members === undefined) return line;
  const others = members.split(",").filter((one) => one !== member);
  return [name, password, administrators, others.join(",")].join(":");
}
