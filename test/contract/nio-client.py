"""A real client (matrix-nio) against the homeserver at argv[1]; prints one JSON line of what it saw.

Takes two accounts as `user_id password` pairs. One makes a room, invites and writes; the other syncs, joins the
invite, receives and answers; the first receives the answer.
"""

import asyncio
import json
import sys

from nio import AsyncClient, InviteMemberEvent, LoginResponse, RoomCreateResponse, RoomMessageText, SyncResponse


async def log_in(url, user, password):
    client = AsyncClient(url, user)
    answer = await client.login(password, device_name="nio")
    assert isinstance(answer, LoginResponse), answer
    assert isinstance(await client.sync(timeout=0, full_state=True), SyncResponse)
    return client


async def until(client, holds):
    for _ in range(20):
        if holds():
            return
        answer = await client.sync(timeout=3000)
        assert isinstance(answer, SyncResponse), answer
    raise AssertionError("what was waited for never came")


async def main():
    url, alice_id, alice_password, bob_id, bob_password = sys.argv[1:6]
    alice = await log_in(url, alice_id, alice_password)
    bob = await log_in(url, bob_id, bob_password)
    heard = {"alice": [], "bob": []}
    alice.add_event_callback(lambda room, event: heard["alice"].append(event.body), RoomMessageText)
    bob.add_event_callback(lambda room, event: heard["bob"].append(event.body), RoomMessageText)
    bob.add_event_callback(lambda room, event: None, InviteMemberEvent)

    room = await alice.room_create(name="Nio", topic="a topic", invite=[bob_id])
    assert isinstance(room, RoomCreateResponse), room
    await until(bob, lambda: room.room_id in bob.invited_rooms)
    await bob.join(room.room_id)
    await until(bob, lambda: room.room_id in bob.rooms)
    message = {"msgtype": "m.text", "body": "hello bob"}
    await alice.room_send(room.room_id, "m.room.message", message)
    await until(bob, lambda: "hello bob" in heard["bob"])
    message = {"msgtype": "m.text", "body": "hello alice"}
    await bob.room_send(room.room_id, "m.room.message", message)
    await bob.room_typing(room.room_id, True)
    await until(alice, lambda: "hello alice" in heard["alice"])
    history = await alice.room_messages(room.room_id, alice.next_batch, limit=50)
    seen = bob.rooms[room.room_id]
    print(
        json.dumps(
            {
                "name": seen.name,
                "topic": seen.topic,
                "members": sorted(seen.users),
                "bobsLevel": seen.power_levels.get_user_level(bob_id),
                "history": [event.body for event in history.chunk if isinstance(event, RoomMessageText)],
            }
        )
    )
    await alice.close()
    await bob.close()


asyncio.run(main())
