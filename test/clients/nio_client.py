"""An unmodified matrix-nio, run inside a sandbox against bureau-bridge with a placeholder for a token."""

import asyncio
import sys

from nio import AsyncClient, RoomMessageText

base_url, room_id = sys.argv[1:3]


async def main():
    client = AsyncClient(base_url)
    # nio requires a token; the proxy replaces it.
    client.access_token = "none"
    me = await client.whoami()
    client.user_id = me.user_id
    await client.sync(timeout=0)
    print(f"nio synced as {client.user_id}, in {len(client.rooms)} rooms", flush=True)
    await say(client, "nio here")

    async def on_message(room, event):
        wanted = "nio, say "
        if room.room_id == room_id and event.sender != client.user_id and event.body.startswith(wanted):
            await say(client, "nio says " + event.body[len(wanted) :])

    client.add_event_callback(on_message, RoomMessageText)
    await client.sync_forever(timeout=30000)


async def say(client, text):
    sent = await client.room_send(room_id, "m.room.message", {"msgtype": "m.text", "body": text})
    print(sent, flush=True)


asyncio.run(main())
