/** An upstream for bench/trust-streams.ts: on each request, an event stream whose only event is sent at once. Argument: its socket. */
const [socket = ""] = process.argv.slice(2);
const event = new TextEncoder().encode("data: first\n\n");
Bun.serve({
  unix: socket,
  fetch: () =>
    new Response(
      new ReadableStream({
        start: (controller) => controller.enqueue(event),
      }),
      { headers: { "content-type": "text/event-stream" } },
    ),
});
console.log("ready");
