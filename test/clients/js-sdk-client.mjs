/**
 * An unmodified matrix-js-sdk with no token, run inside a sandbox against bureau-bridge: waits for its first sync, joins in
 * the room it is told, and echoes what others write until one says "bye". Bundled by the test that runs it.
 */
import * as sdk from "matrix-js-sdk";

const [baseUrl, roomId] = process.argv.slice(2);
if (baseUrl === undefined || roomId === undefined) throw new Error("usage: BASE_URL ROOM_ID");

const anonymous = sdk.createClient({ baseUrl });
const { user_id: userId } = await anonymous.whoami();
const client = sdk.createClient({ baseUrl, userId });
client.on(sdk.ClientEvent.Sync, (state) => {
  if (state !== sdk.SyncState.Prepared) return;
  console.log(`js-sdk synced as ${userId}, in ${client.getRooms().length} rooms`);
  void client.sendTextMessage(roomId, "js-sdk here");
});
client.on(sdk.RoomEvent.Timeline, (event, room, toStartOfTimeline) => {
  if (toStartOfTimeline || room?.roomId !== roomId || event.getSender() === userId) return;
  const body = String(event.getContent().body ?? "");
  if (body === "bye") {
    client.stopClient();
    process.exit(0);
  }
  if (body.startsWith("js-sdk, say "))
    void client.sendTextMessage(roomId, `js-sdk says ${body.slice("js-sdk, say ".length)}`);
});
await client.startClient({ initialSyncLimit: 5 });
