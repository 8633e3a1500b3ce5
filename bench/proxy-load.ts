/**
 * The load generator of bench/proxy.ts, a process of its own: raw HTTP/1.1 over keep-alive unix connections, so that
 * it costs less than anything it measures. `bun proxy-load.ts SOCKET PATH CONNECTIONS REQUESTS` prints one JSON line.
 */

const [socketPath = "", path = "/", connectionsText = "1", requestsText = "1000"] = process.argv.slice(2);
const connections = Number(connectionsText);
const total = Number(requestsText);
const request = Buffer.from(
  `GET ${path} HTTP/1.1\r\nHost: bench\r\nAccept: application/json\r\nUser-Agent: bench\r\n\r\n`,
);

const latencies = new Float64Array(total);
let sent = 0;
let done = 0;
const finished = Promise.withResolvers<void>();

type Connection = { started: number; received: string };

/** Bytes of the whole response once its head is in; undefined before that. */
function lengthOf(text: string): number | undefined {
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  if (!text.startsWith("HTTP/1.1 200")) throw new Error(`unexpected answer: ${text.slice(0, 300)}`);
  const length = /\r\ncontent-length: (\d+)\r\n/i.exec(text)?.[1];
  if (length === undefined) throw new Error(`an answer without Content-Length: ${text.slice(0, 300)}`);
  return end + 4 + Number(length);
}

function next(socket: Bun.Socket<Connection>): void {
  if (sent >= total) return;
  sent++;
  socket.data.received = "";
  socket.data.started = performance.now();
  socket.write(request);
}

const started = performance.now();
for (let i = 0; i < connections; i++)
  await Bun.connect<Connection>({
    unix: socketPath,
    data: { started: 0, received: "" },
    socket: {
      open: next,
      data(socket, bytes) {
        socket.data.received += bytes.toString("latin1");
        if (socket.data.received.length !== lengthOf(socket.data.received)) return;
        latencies[done++] = performance.now() - socket.data.started;
        if (done === total) finished.resolve();
        next(socket);
      },
      close: () => finished.reject(new Error("the connection was closed")),
      error: (_socket, error) => finished.reject(error),
    },
  });
await finished.promise;
const seconds = (performance.now() - started) / 1000;
latencies.sort();
console.log(
  JSON.stringify({
    p50Ms: latencies[Math.floor(total * 0.5)],
    p95Ms: latencies[Math.floor(total * 0.95)],
    perSecond: total / seconds,
  }),
);
process.exit(0);
