/** Outgoing requests: a real server with a certificate of a private authority, and a real forward proxy. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  configureEgress,
  egressOfEnvironment,
  egressTo,
  isDirect,
  noEgressSettings,
  parseProxy,
  readCertificates,
  takeProxyVariables,
} from "@bureau/os/egress";
import { startFixture } from "../packages/proxy/src/testing/proxy-fixture.ts";

const dir = mkdtempSync(join(tmpdir(), "beg-"));
const ca = join(dir, "ca.pem");
const authorities = join(dir, "authorities");
/** The first line of each request to the forward proxy, and whether the request held a token. */
const asked: { line: string; hadToken: boolean }[] = [];
const seen: (string | null)[] = [];
let tls: Bun.Server<undefined>;
let plain: Bun.Server<undefined>;
let forwardProxy: Server;
let proxyUrl = "";

function openssl(...args: string[]): void {
  const made = Bun.spawnSync(["openssl", ...args], { cwd: dir });
  if (made.exitCode !== 0) throw new Error(made.stderr.toString());
}

beforeAll(async () => {
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  writeFileSync(join(dir, "names"), "subjectAltName=DNS:hs.test,DNS:service.test,IP:127.0.0.1\n");
  openssl(
    "req",
    "-x509",
    ...key,
    "-keyout",
    "ca.key",
    "-out",
    "ca.pem",
    "-days",
    "2",
    "-subj",
    "/CN=Test CA",
  );
  openssl("req", ...key, "-keyout", "hs.key", "-out", "hs.csr", "-subj", "/CN=hs.test");
  openssl(
    ...["x509", "-req", "-in", "hs.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"],
    ...["-out", "hs.pem", "-days", "2", "-extfile", "names"],
  );
  // A folder as an administrator fills it: no links named by hashes.
  mkdirSync(authorities);
  writeFileSync(join(authorities, "company.crt"), readFileSync(ca));
  const answer = (request: Request): Response => {
    seen.push(request.headers.get("authorization"));
    return Response.json({ versions: ["v1.11"] });
  };
  const pair = { key: readFileSync(join(dir, "hs.key")), cert: readFileSync(join(dir, "hs.pem")) };
  tls = Bun.serve({ hostname: "127.0.0.1", port: 0, tls: pair, fetch: answer });
  plain = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: answer });
  forwardProxy = createServer((client) => {
    client.on("error", () => {});
    client.once("data", (bytes) => {
      const text = bytes.toString("latin1");
      const line = text.split("\r\n")[0] ?? "";
      asked.push({ line, hadToken: /authorization/iu.test(text) });
      if (!line.startsWith("CONNECT")) return client.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
      const upstream = connect(tls.port ?? 0, "127.0.0.1", () => {
        client.write("HTTP/1.1 200 OK\r\n\r\n");
        client.pipe(upstream).pipe(client);
      });
      upstream.on("error", () => client.destroy());
      return undefined;
    });
  });
  await new Promise<void>((resolve) => forwardProxy.listen(0, "127.0.0.1", resolve));
  const address = forwardProxy.address();
  if (address === null || typeof address === "string") throw new Error("expected a port");
  proxyUrl = `http://127.0.0.1:${address.port}`;
}, 60_000);

beforeEach(() => {
  asked.length = 0;
  seen.length = 0;
});

afterAll(async () => {
  configureEgress(noEgressSettings);
  forwardProxy.close();
  await Promise.all([tls.stop(true), plain.stop(true)]);
  rmSync(dir, { recursive: true, force: true });
});

/** Sends a homeserver a request with a token, as all our requests have. Returns the status, or the error. */
async function ask(address: string): Promise<number | string> {
  const { base, options } = egressTo(address);
  try {
    const headers = { authorization: "Bearer secret" };
    return (await fetch(`${base}/_matrix/client/versions`, { ...options, headers })).status;
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

describe("a homeserver with a certificate of a private authority", () => {
  test("is refused, and is trusted when the authority is given as a file or as a folder", async () => {
    const address = `https://127.0.0.1:${tls.port}`;
    configureEgress(noEgressSettings);
    expect(await ask(address)).toBe("UNABLE_TO_VERIFY_LEAF_SIGNATURE");
    for (const caCerts of [ca, authorities]) {
      configureEgress({ ...noEgressSettings, caCerts });
      expect(await ask(address)).toBe(200);
    }
    expect(seen).toEqual(["Bearer secret", "Bearer secret"]);
  });

  test("is reached through the forward proxy, which sees its name and no token", async () => {
    configureEgress({ httpsProxy: proxyUrl, noProxy: "", caCerts: ca });
    expect(await ask(`https://hs.test:${tls.port}`)).toBe(200);
    expect(asked).toEqual([{ line: `CONNECT hs.test:${tls.port} HTTP/1.1`, hadToken: false }]);
    expect(seen).toEqual(["Bearer secret"]);
  });
});

test("a program ignores the shell's proxy variables, and this host is never proxied", async () => {
  const env: Record<string, string | undefined> = process.env;
  for (const name of ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"]) env[name] = proxyUrl;
  const shell = takeProxyVariables(env);
  expect(shell.httpsProxy).toBe(proxyUrl);
  configureEgress({ httpsProxy: proxyUrl, noProxy: "", caCerts: ca });
  expect(await ask(`http://127.0.0.1:${plain.port}`)).toBe(200);
  expect(await ask(`https://127.0.0.1:${tls.port}`)).toBe(200);
  // A name without TLS bypasses the proxy, and does not resolve here.
  expect(await ask(`http://hs.test:${plain.port}`)).toBeString();
  expect(asked).toEqual([]);
});

test("a principal's proxy reaches a service through its configured forward proxy", async () => {
  await using proxy = await startFixture({
    services: { outside: { upstream: `https://service.test:${tls.port}` } },
    egress: { httpsProxy: proxyUrl, noProxy: "", caCerts: authorities },
  });
  expect((await proxy.ask("/http/outside/")).status).toBe(200);
  expect(asked.map(({ line }) => line)).toEqual([`CONNECT service.test:${tls.port} HTTP/1.1`]);
});

test.each([
  ["https://hs.test", "", false],
  ["https://hs.test", "hs.test", true],
  ["https://a.hs.test", "other, .hs.test", true],
  ["https://ahs.test", "hs.test", false],
  ["https://hs.test:8448", "hs.test:8448", true],
  ["https://hs.test", "*", true],
  ["https://[::1]:1", "", true],
  ["https://localhost", "", true],
  ["https://127.9.9.9", "", true],
])("%p with the exceptions %p is direct: %p", (url, noProxy, direct) => {
  expect(isDirect(new URL(url), noProxy)).toBe(direct);
});

test("refuses an unusable proxy or certificates, and quotes no password", () => {
  expect(() => parseProxy("ftp://h")).toThrow("http or https");
  expect(() => parseProxy("http://me:secret@h:1")).not.toThrow("secret");
  expect(() => egressOfEnvironment({ BUREAU_HTTPS_PROXY: "nowhere" })).toThrow("Invalid forward proxy");
  expect(() => readCertificates(join(dir, "none.pem"))).toThrow("Cannot read the certificates");
  expect(() => readCertificates(join(dir, "names"))).toThrow("no certificate");
});
