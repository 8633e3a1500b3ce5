/**
 * A reverse proxy in front of a homeserver: forwards each request, counts requests and rate-limit refusals, and may answer
 * a request itself. Tests measure with it how many requests our programs make.
 */

export type HomeserverDoor = Disposable & {
  readonly url: string;
  /** How many requests there were since {@link HomeserverDoor.takeCount} was last asked, in all and refused with 429. */
  takeCount(): DoorCount;
};

export type DoorCount = {
  readonly requests: number;
  readonly writes: number;
  readonly limited: number;
  /** Bytes of the answers. */
  readonly bytes: number;
};

/** `answer` may answer in the homeserver's place; undefined hands the request on. */
export function openHomeserverDoor(
  homeserver: string,
  answer: (request: Request) => Response | undefined = () => undefined,
): HomeserverDoor {
  let [requests, writes, limited, bytes] = [0, 0, 0, 0];
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request) {
      requests++;
      if (request.method !== "GET") writes++;
      const response = answer(request) ?? (await handOn(homeserver, request));
      if (response.status === 429) limited++;
      bytes += (await response.clone().arrayBuffer()).byteLength;
      return response;
    },
  });
  return {
    url: server.url.origin,
    takeCount() {
      const count = { requests, writes, limited, bytes };
      [requests, writes, limited, bytes] = [0, 0, 0, 0];
      return count;
    },
    [Symbol.dispose]: () => void server.stop(true),
  };
}

async function handOn(homeserver: string, request: Request): Promise<Response> {
  const { pathname, search } = new URL(request.url);
  const body = request.method === "GET" ? undefined : await request.arrayBuffer();
  const headers = new Headers(request.headers);
  headers.delete("host");
  const response = await fetch(`${homeserver}${pathname}${search}`, {
    method: request.method,
    headers,
    redirect: "manual",
    signal: request.signal,
    ...(body === undefined ? {} : { body }),
  });
  const passed = new Headers(response.headers);
  for (const name of ["content-encoding", "content-length", "transfer-encoding"]) passed.delete(name);
  return new Response(await response.arrayBuffer(), { status: response.status, headers: passed });
}
