import { expect, test } from "bun:test";
import { serviceIdentity } from "./service-identity.ts";

const env = {
  BUREAU_FLEET: "bureau/fleet/f",
  BUREAU_MACHINE_NAME: "bureau/fleet/f/machine/m",
  BUREAU_SERVER_NAME: "example.org",
  BUREAU_PRINCIPAL_NAME: "service/directory",
  BUREAU_SERVICE_SOCKET: "/run/bureau/listen/service.sock",
};

test("reads who a service is from its environment", () => {
  expect<unknown>(serviceIdentity(env)).toEqual({
    fleet: "bureau/fleet/f",
    principal: "service/directory",
    machine: "@bureau/fleet/f/machine/m:example.org",
    socket: "/run/bureau/listen/service.sock",
  });
});

test.each(Object.keys(env))("names %s when it is missing", (name) => {
  expect(() => serviceIdentity({ ...env, [name]: "" })).toThrow(`the environment has no ${name}`);
});
