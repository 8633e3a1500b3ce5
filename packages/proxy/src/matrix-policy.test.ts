import { expect, test } from "bun:test";
import { judgeMatrixRequest } from "./matrix-policy.ts";

const client = "/_matrix/client/v3";
const judge = (line: string): string => {
  const [method = "", path = ""] = line.split(" ");
  try {
    const verdict = judgeMatrixRequest(method, path);
    return verdict.kind === "never" ? "never" : verdict.needs.join("+") || "open";
  } catch {
    return "ambiguous";
  }
};

const open = `
GET /_matrix/client/versions
GET /.well-known/matrix/client
GET ${client}/account/whoami
GET /_matrix/client/r0/account/whoami
GET ${client}/capabilities
GET ${client}/sync
POST ${client}/user/@a:b/filter
GET ${client}/user/@a:b/filter/1
PUT ${client}/user/@a:b/account_data/m.direct
GET ${client}/user/@a:b/rooms/!r:b/account_data/m.fully_read
PUT ${client}/user/@a:b/rooms/!r:b/tags/m.favourite
DELETE ${client}/user/@a:b/rooms/!r:b/tags/m.favourite
GET ${client}/pushrules/
GET ${client}/pushrules/global/content/.m.rule.contains_user_name
GET ${client}/profile/@a:b
GET ${client}/profile/@a:b/displayname
PUT ${client}/profile/@a:b/displayname
GET ${client}/joined_rooms
GET ${client}/rooms/!r:b/state
GET ${client}/rooms/!r:b/state/m.room.name
GET ${client}/rooms/!r:b/state/m.room.name/
PUT ${client}/rooms/!r:b/state/m.bureau.service/bureau%2Ffleet%2Fp%2Fagent%2Fx:b
GET ${client}/rooms/!r:b/state/m.room.member/@a:b
PUT ${client}/rooms/!r:b/send/m.room.message/1
PUT ${client}/rooms/!r:b/redact/$e/1
GET ${client}/rooms/!r:b/messages
GET ${client}/rooms/!r:b/members
GET ${client}/rooms/!r:b/joined_members
GET ${client}/rooms/!r:b/event/$e
GET ${client}/rooms/!r:b/context/$e
GET /_matrix/client/v1/rooms/!r:b/relations/$e
GET /_matrix/client/v1/rooms/!r:b/relations/$e/m.thread
GET /_matrix/client/v1/rooms/!r:b/relations/$e/m.thread/m.room.message
GET /_matrix/client/v1/rooms/!r:b/threads
PUT ${client}/rooms/!r:b/typing/@a:b
POST ${client}/rooms/!r:b/receipt/m.read/$e
POST ${client}/rooms/!r:b/read_markers
POST ${client}/rooms/!r:b/leave
POST ${client}/rooms/!r:b/forget
POST ${client}/rooms/!r:b/kick
POST ${client}/rooms/!r:b/ban
POST ${client}/rooms/!r:b/unban
GET ${client}/rooms/!r:b/aliases
GET ${client}/directory/room/%23bureau%2Fsystem:b
GET ${client}/publicRooms
POST ${client}/user_directory/search
POST ${client}/keys/upload
POST ${client}/keys/query
GET ${client}/keys/changes
POST ${client}/keys/device_signing/upload
PUT ${client}/sendToDevice/m.room.encrypted/1
GET ${client}/devices
GET ${client}/devices/ABC
PUT ${client}/presence/@a:b/status
GET ${client}/voip/turnServer
GET ${client}/thirdparty/protocols
GET ${client}/room_keys/version
GET /_matrix/media/v3/config
GET /_matrix/client/v1/media/config
`;

test.each(open.trim().split("\n"))("%s is allowed without a grant", (line) => {
  expect(judge(line)).toBe("open");
});

test.each([
  [`POST ${client}/createRoom`, "matrix/create-room"],
  [`POST ${client}/join/!r:b`, "matrix/join"],
  [`POST ${client}/join/%23room:b`, "matrix/join"],
  [`POST ${client}/rooms/!r:b/join`, "matrix/join"],
  [`POST ${client}/knock/%23room:b`, "matrix/join"],
  [`POST ${client}/rooms/!r:b/invite`, "matrix/invite"],
  [`PUT ${client}/rooms/!r:b/state/m.room.member/@x:b`, "matrix/raw-api+matrix/join+matrix/invite"],
  [`PUT ${client}/rooms/!r:b/state/m.room.member/x`, "matrix/raw-api+matrix/join+matrix/invite"],
  [`PUT ${client}/rooms/!r:b/state/m.room.member/`, "matrix/raw-api+matrix/join+matrix/invite"],
  [`PUT ${client}/rooms/!r:b/state/m.room.member`, "matrix/raw-api+matrix/join+matrix/invite"],
])("%s needs %s", (line, needs) => {
  expect(judge(line)).toBe(needs);
});

test.each([
  `POST ${client}/rooms/!r:b/upgrade`,
  `PUT ${client}/directory/room/%23room:b`,
  `DELETE ${client}/directory/room/%23room:b`,
  `PUT ${client}/pushrules/global/content/x`,
  `POST ${client}/search`,
  `POST ${client}/pushers/set`,
  `PUT ${client}/devices/ABC`,
  `PUT ${client}/room_keys/keys`,
  "POST /_matrix/media/v3/upload",
  "GET /_matrix/client/v1/media/download/b/id",
  "POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
  `PATCH ${client}/sync`,
  `POST ${client}/createRoom/x`,
  // An identifier without its sigil does not match the table.
  `PUT ${client}/rooms/r:b/send/m.room.message/1`,
  `PUT ${client}/rooms/!r%2Finvite/send/m.room.message/1`,
])("%s needs matrix/raw-api", (line) => {
  expect(judge(line)).toBe("matrix/raw-api");
});

test.each([
  `POST ${client}/login`,
  `GET ${client}/login`,
  // To a homeserver, a method in lower case is another method.
  `get ${client}/sync`,
  `TRACE ${client}/sync`,
  `TRACE ${client}/anything`,
  `CONNECT ${client}/sync`,
  `POST /_matrix/client/v1/login/get_token`,
  `GET ${client}/login/sso/redirect`,
  `POST ${client}/LOGIN`,
  `POST ${client}/register`,
  `GET ${client}/register/available`,
  `POST ${client}/logout`,
  `POST ${client}/logout/all`,
  `POST ${client}/refresh`,
  `GET ${client}/auth/m.login.password/fallback/web`,
  `POST ${client}/account/password`,
  `POST ${client}/account/deactivate`,
  `POST ${client}/account/3pid/add`,
  `POST ${client}/account/whoami`,
  `GET ${client}/account/whoami/x`,
  `POST ${client}/delete_devices`,
  `DELETE ${client}/devices/ABC`,
  `GET ${client}/admin/whois/@a:b`,
  "POST /_matrix/client/unstable/org.matrix.msc3882/login/token",
  "DELETE /_matrix/client/unstable/x/devices/ABC",
  "POST /_matrix/client/api/v1/login",
  "POST /_matrix/client/v2_alpha/register",
  "PUT /_matrix/federation/v1/send/1",
  "GET /_matrix/key/v2/server",
  "GET /_matrix/app/v1/users/@a:b",
  "GET /_synapse/admin/v1/users/@a:b",
  "POST /_synapse/admin/v1/register",
  "GET /_matrix/client",
  "GET /_matrix/",
  "GET /_MATRIX/client/v3/sync",
  "GET /sync",
  "POST /_matrix/client/versions",
  "GET /.well-known/matrix/server",
])("%s is never allowed", (line) => {
  expect(judge(line)).toBe("never");
});

test.each([
  "GET /_matrix/client/v3//sync",
  "GET //_matrix/client/v3/sync",
  "GET /_matrix/client/v3/sync/../login",
  "GET /_matrix/client/v3/./sync",
  "GET /_matrix/client/v3/%2e%2e/login",
  "GET /_matrix/client/v3/rooms/%2e%2e%2f%2e%2e%2flogin/state",
  "GET /_matrix/client/v3/rooms/!r:b%2F..%2F..%2Flogin/state",
  "GET /_matrix/client/v3/rooms/!r:b%252F..%252F..%252Flogin/state",
  "POST /_matrix/client/v3/%6Cogin",
  "POST /_matrix/client/v3/l%6Fgin",
  "POST /_matrix/client/v3/rooms/!r:b%00/leave",
  "POST /_matrix/client/v3/rooms/!r:b%5C..%5Clogin/leave",
  "POST /_matrix/client/v3/rooms/!r:b%0d%0aX:y/leave",
  "POST /_matrix/client/v3/rooms/!r:b%zz/leave",
  "POST /_matrix/client/v3/rooms/!r:b%ff/leave",
  "POST /_matrix/client/v3\\login",
  'GET /_matrix/client/v3/rooms/"/state',
])("refuses %s as ambiguous", (line) => {
  expect(judge(line)).toBe("ambiguous");
});
