/** Opens sessions: login, registration with a token; asks a homeserver for its versions and a token's user. */
import { parse, ref } from "@bureau/schema/parse";
import { parseUserId, type UserId } from "@bureau/schema/refs";
import * as v from "valibot";
import { parseGranted, withInteractiveAuth } from "./interactive-auth.ts";
import { MatrixError } from "./matrix-error.ts";
import { matrixRequest, type Server } from "./request.ts";

/** What a login gives. `token` is a secret. */
export type Granted = { readonly userId: UserId; readonly token: string; readonly deviceId: string };

type Where = Server & { readonly signal?: AbortSignal | undefined };

/** The device of the session; a homeserver that knows the ID replaces that device's session. */
type Device = { readonly deviceId?: string; readonly deviceName?: string };

const deviceFields = ({ deviceId, deviceName }: Device): Record<string, string> => ({
  ...(deviceId === undefined ? {} : { device_id: deviceId }),
  ...(deviceName === undefined ? {} : { initial_device_display_name: deviceName }),
});

/** Logs in with a password. @throws MatrixError `forbidden` when user or password is wrong */
export async function login(
  options: Where & { readonly user: string; readonly password: string } & Device,
): Promise<Granted> {
  const answer = await matrixRequest({
    ...options,
    act: `log in as "${options.user}"`,
    method: "POST",
    path: "/v3/login",
    body: {
      type: "m.login.password",
      identifier: { type: "m.id.user", user: options.user },
      password: options.password,
      ...deviceFields(options),
    },
  });
  return granted(answer, "answer to login");
}

/** The result of registering: an account that exists is an expected answer, not an error. */
export type Registration = { readonly inUse: true } | (Granted & { readonly inUse: false });

/**
 * Registers `username` (a localpart) with a registration token.
 * @throws MatrixError `unauthorized` or `forbidden` when the token is not accepted
 */
export async function registerWithToken(
  options: Where & {
    readonly username: string;
    readonly password: string;
    readonly registrationToken: string;
  } & Device,
): Promise<Registration> {
  const register = (auth: Record<string, unknown> | undefined): Promise<unknown> =>
    matrixRequest({
      ...options,
      act: `register "${options.username}"`,
      method: "POST",
      path: "/v3/register",
      body: {
        username: options.username,
        password: options.password,
        ...deviceFields(options),
        ...(auth === undefined ? {} : { auth }),
      },
    });
  try {
    const answers = {
      "m.login.registration_token": { token: options.registrationToken },
      "m.login.dummy": {},
    };
    const answer = await withInteractiveAuth(register, answers, "m.login.registration_token");
    return { inUse: false, ...granted(answer, "answer to register") };
  } catch (error) {
    if (error instanceof MatrixError && error.errcode === "M_USER_IN_USE") return { inUse: true };
    throw error;
  }
}

function granted(answer: unknown, what: string): Granted {
  const fields = parseGranted(answer, what);
  return {
    userId: parseUserId(fields.user_id),
    token: fields.access_token,
    deviceId: fields.device_id ?? "",
  };
}

const WhoamiSchema = v.object({ user_id: ref(parseUserId), device_id: v.optional(v.string()) });

/** Whose token this is, as the homeserver sees it. @throws MatrixError `unauthorized` when the token is not valid */
export async function whoami(
  where: Where & { readonly token: string | undefined },
): Promise<{ userId: UserId; deviceId: string }> {
  const answer = await matrixRequest({
    ...where,
    act: "look up the session's user",
    method: "GET",
    path: "/v3/account/whoami",
  });
  const { user_id, device_id = "" } = parse(WhoamiSchema, answer, "answer to whoami");
  return { userId: user_id, deviceId: device_id };
}

const VersionsSchema = v.object({ versions: v.array(v.string()) });

/** The specification versions of a homeserver; also the cheapest check that it answers. */
export async function serverVersions(where: Where & { readonly timeoutMs?: number }): Promise<string[]> {
  const answer = await matrixRequest({
    ...where,
    act: "ask the homeserver for its versions",
    rateLimitMsMax: 0,
    method: "GET",
    path: "/versions",
  });
  return parse(VersionsSchema, answer, "answer to versions").versions;
}
