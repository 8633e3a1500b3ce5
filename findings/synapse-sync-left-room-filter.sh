#!/usr/bin/env bash
# Synapse 1.163.2 (PyPI): an incremental /sync leaves a newly left room out of rooms.leave when the filter lets none of the
# room's new events through.
#
# Bob is in a room. He syncs once with a filter for messages only, and Alice kicks him. His next sync with that filter has
# no rooms.leave at all: he does not learn that he was removed. The same sync without a filter, or with m.room.member in the
# filter's timeline types, names the room.
#
# Seen: filtered=absent member-in-filter=named unfiltered=named
set -euo pipefail
folder=$(mktemp -d)
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet matrix-synapse==1.163.2
venv/bin/python -m synapse.app.homeserver --generate-config --server-name test.invalid --report-stats no -c hs.yaml >/dev/null 2>&1
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat > more.yaml <<YAML
enable_registration: true
enable_registration_without_verification: true
listeners: [{port: $port, type: http, bind_addresses: [127.0.0.1], resources: [{names: [client]}]}]
YAML
venv/bin/python -m synapse.app.homeserver -c hs.yaml -c more.yaml >/dev/null 2>&1 &
server=$!
trap 'kill $server; wait $server 2>/dev/null || true; rm -rf "$folder"' EXIT
cat > ask.py <<'PY'
import json, sys, time, urllib.parse, urllib.request
base = f"http://127.0.0.1:{sys.argv[1]}/_matrix/client/v3"
def ask(method, path, token="", body=None):
    request = urllib.request.Request(base + path, method=method, data=None if body is None else json.dumps(body).encode())
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    return json.load(urllib.request.urlopen(request))
for _ in range(300):
    try:
        urllib.request.urlopen(base.replace("/v3", "/versions"))
        break
    except OSError:
        time.sleep(0.2)
def register(name):
    made = ask("POST", "/register", body={"username": name, "password": "a long password", "auth": {"type": "m.login.dummy"}})
    return made["user_id"], made["access_token"]
(_, alice), (bob_id, bob) = register("alice"), register("bob")
room = ask("POST", "/createRoom", alice, {"preset": "public_chat"})["room_id"]
at = urllib.parse.quote(room)
ask("POST", f"/join/{at}", bob, {})
def sync(types, since=None):
    query = {"timeout": "0"}
    if types is not None:
        only = {"types": types}
        query["filter"] = json.dumps({"room": {"timeline": only, "state": only}})
    if since is not None:
        query["since"] = since
    return ask("GET", "/sync?" + urllib.parse.urlencode(query), bob)
since = sync(["m.room.message"])["next_batch"]
ask("POST", f"/rooms/{at}/kick", alice, {"user_id": bob_id})
def names(types):
    return "named" if room in sync(types, since).get("rooms", {}).get("leave", {}) else "absent"
print(f"filtered={names(['m.room.message'])} member-in-filter={names(['m.room.message', 'm.room.member'])} unfiltered={names(None)}")
PY
seen=$(python3 ask.py "$port")
echo "$seen"
[ "$seen" = "filtered=absent member-in-filter=named unfiltered=named" ]
