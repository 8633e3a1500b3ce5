/** The versions and capabilities of the server. */
import { roomVersions } from "../../rooms/create-room.ts";
import { notFound } from "../matrix-error.ts";
import { authed, open, type Route } from "../router.ts";

const specVersions = [
  "r0.6.1",
  "v1.1",
  "v1.2",
  "v1.3",
  "v1.4",
  "v1.5",
  "v1.6",
  "v1.7",
  "v1.8",
  "v1.9",
  "v1.10",
  "v1.11",
];

/** `baseUrl` is where clients reach the server, for discovery; undefined when it listens on no port. */
export function versionEndpoints(deps: { baseUrl: () => string | undefined }): Route[] {
  return [
    open("GET", "/_matrix/client/versions", () => ({ versions: specVersions, unstable_features: {} })),
    open("GET", "/.well-known/matrix/client", () => {
      const url = deps.baseUrl();
      if (url === undefined) throw notFound("This homeserver listens on no port");
      return { "m.homeserver": { base_url: url } };
    }),
    authed("GET", "/capabilities", () => ({
      capabilities: {
        "m.change_password": { enabled: true },
        "m.set_displayname": { enabled: true },
        "m.set_avatar_url": { enabled: true },
        "m.3pid_changes": { enabled: false },
        "m.get_login_token": { enabled: false },
        "m.room_versions": {
          default: roomVersions[0],
          available: Object.fromEntries(roomVersions.map((version) => [version, "stable"])),
        },
      },
    })),
    authed("GET", "/voip/turnServer", () => ({})),
    authed("GET", "/thirdparty/protocols", () => ({})),
  ];
}
