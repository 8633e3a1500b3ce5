/** The Bureau on this host that an invocation is about. */
import * as host from "@bureau/host/installation";
import { type Invocation, stringFlag } from "./command.ts";

type Asked = Pick<Invocation, "flags" | "env">;

const asked = ({ flags, env }: Asked) => ({ home: stringFlag({ flags }, "home"), env });

/** @throws BureauError as {@link host.findInstallation} does */
export const findInstallation = (invocation: Asked): host.Installation | undefined =>
  host.findInstallation(asked(invocation));

/** @throws BureauError `not-found` when there is none */
export const requireInstallation = (invocation: Asked): host.Installation =>
  host.requireInstallation(asked(invocation));
