/** Who a service is, from the environment that its sandbox gives it (wire facts, section 5.7). */
import { BureauError } from "@bureau/kit/errors";
import {
  type FleetLocalpart,
  type PrincipalName,
  parseFleet,
  parseMachine,
  parsePrincipalName,
  parseServerName,
  type UserId,
  userIdOf,
} from "@bureau/schema/refs";

export type ServiceIdentity = {
  readonly fleet: FleetLocalpart;
  readonly principal: PrincipalName;
  /** The machine it runs on. */
  readonly machine: UserId;
  /** Where it listens. */
  readonly socket: string;
};

/** @throws BureauError `invalid-input` for a variable that is missing, RefError for a malformed one */
export function serviceIdentity(env: Readonly<Record<string, string | undefined>>): ServiceIdentity {
  const required = (name: string): string => {
    const value = env[name];
    if (value !== undefined && value !== "") return value;
    throw new BureauError("invalid-input", `Cannot start: the environment has no ${name}`, {
      hint: "a service runs in the sandbox of a service principal: bureau agent create service/NAME",
    });
  };
  const machine = parseMachine(required("BUREAU_MACHINE_NAME"));
  return {
    fleet: parseFleet(required("BUREAU_FLEET")),
    principal: parsePrincipalName(required("BUREAU_PRINCIPAL_NAME")),
    machine: userIdOf(machine, parseServerName(required("BUREAU_SERVER_NAME"))),
    socket: required("BUREAU_SERVICE_SOCKET"),
  };
}
