/**
 * `bureau-bridge`: inside a sandbox, gives programs that only speak TCP the proxy's unix socket, or gives a plain HTTP
 * server the unix socket a Bureau service must listen on. With a command it starts that once it listens, passes
 * signals on, and exits as the command did.
 */
import { constants } from "node:os";
import { isatty } from "node:tty";
import { BureauError, isBureauError, messageOf } from "@bureau/kit/errors";
import { type Bridge, type Endpoint, formatEndpoint, parseEndpoint, startBridge } from "@bureau/os/bridge";
import { exitCodes } from "@bureau/os/lifecycle";
import { catchesSignal } from "@bureau/os/process-table";
import { insidePaths } from "@bureau/schema/inside-paths";

const defaultPort = 8642;
const help = `Usage: bureau-bridge [--listen ADDRESS] [--connect ADDRESS] [--egress] [-- COMMAND [ARGUMENT…]]

Carries bytes from ADDRESS to ADDRESS; each is tcp:HOST:PORT or unix:/PATH.

  --listen ADDRESS    default tcp:127.0.0.1:${defaultPort}; with a COMMAND, a free port of 127.0.0.1
  --connect ADDRESS   default unix:$BUREAU_PROXY_SOCKET, or unix:${insidePaths.proxySocket}
  --egress            connects to unix:${insidePaths.egressSocket}, which carries to the hosts in
                      the template's egress; sets HTTP_PROXY and HTTPS_PROXY for COMMAND
  -- COMMAND …        started once the bridge listens, with BUREAU_PROXY_URL set to
                      http://HOST:PORT; gets SIGTERM and SIGINT, and SIGHUP when it
                      handles it; its exit code is ours
  --help              shows this

Examples
  bureau-bridge -- my-matrix-bot --homeserver '$BUREAU_PROXY_URL'
  bureau-bridge --listen unix:${insidePaths.serviceSocket} --connect tcp:127.0.0.1:8000

A TCP port of a sandbox that shares the host's network is open to every program on the host.
`;

type Arguments = {
  readonly listen: Endpoint;
  readonly connect: Endpoint;
  readonly egress: boolean;
  readonly command: readonly string[];
};

class UsageError extends BureauError {}

/**
 * Options end at `--` or at the first word that is none: the runtime swallows a `--` that comes first.
 * @returns undefined when help is asked for. @throws UsageError
 */
function parseArguments(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Arguments | undefined {
  const given = new Map<string, string>();
  let egress = false;
  let at = 0;
  for (; args[at]?.startsWith("-") && args[at] !== "--"; at++) {
    const [name = "", ...inline] = (args[at] ?? "").split("=");
    if (name === "--help" || name === "-h") return undefined;
    if (name === "--egress" && inline.length === 0) {
      egress = true;
      continue;
    }
    if (name !== "--listen" && name !== "--connect")
      throw new UsageError("invalid-input", `unknown option "${name}"`, { hint: "bureau-bridge --help" });
    const value = inline.length > 0 ? inline.join("=") : args[++at];
    if (value === undefined) throw new UsageError("invalid-input", `${name} needs an address`);
    given.set(name, value);
  }
  const command = args.slice(args[at] === "--" ? at + 1 : at);
  const listen = given.get("--listen") ?? `tcp:127.0.0.1:${command.length > 0 ? 0 : defaultPort}`;
  const usual = egress ? insidePaths.egressSocket : env["BUREAU_PROXY_SOCKET"] || insidePaths.proxySocket;
  const connect = given.get("--connect") ?? `unix:${usual}`;
  return { listen: endpoint("--listen", listen), connect: endpoint("--connect", connect), egress, command };
}

function endpoint(option: string, text: string): Endpoint {
  try {
    return parseEndpoint(text);
  } catch (error) {
    throw new UsageError("invalid-input", `${option}: ${messageOf(error)}`, {
      hint: isBureauError(error) ? error.hint : "",
    });
  }
}

/** Both spellings: curl reads only the lower case of http_proxy, other programs only the upper case. */
function proxyVariables(url: string): Record<string, string> {
  const direct = "localhost,127.0.0.1,::1";
  return {
    HTTP_PROXY: url,
    http_proxy: url,
    HTTPS_PROXY: url,
    https_proxy: url,
    NO_PROXY: direct,
    no_proxy: direct,
  };
}

/** Runs `command` to its end; its exit code, or 128+n when signal n ended it. */
async function runCommand({ command, egress }: Arguments, { listening }: Bridge): Promise<number> {
  const address = listening.kind === "tcp" ? formatEndpoint(listening).replace("tcp:", "http://") : undefined;
  const variables =
    address === undefined ? {} : egress ? proxyVariables(address) : { BUREAU_PROXY_URL: address };
  let child: Bun.Subprocess | undefined;
  const forward = (signal: NodeJS.Signals): void => child?.kill(signal);
  // Listened for before there is a command: a signal in between would end this program and leave it alone.
  process.on("SIGTERM", forward);
  // To a Bureau program SIGHUP means a new payload; one that does not know it would be killed by it. A terminal that
  // goes away sends its own to the command.
  process.on("SIGHUP", (signal) => {
    if (child !== undefined && catchesSignal(child.pid, constants.signals.SIGHUP)) forward(signal);
  });
  // A terminal sends its interrupt to the command as well; passing it on would interrupt twice.
  process.on("SIGINT", (signal) => {
    if (!isatty(0)) forward(signal);
  });
  try {
    child = Bun.spawn([...command], {
      stdio: ["inherit", "inherit", "inherit"],
      env: { ...process.env, ...variables },
    });
  } catch (error) {
    throw new BureauError("failed", `Cannot start "${command[0]}": ${messageOf(error)}`);
  }
  await child.exited;
  const { signalCode } = child;
  if (signalCode === null) return child.exitCode ?? exitCodes.failed;
  return 128 + (typeof signalCode === "number" ? signalCode : constants.signals[signalCode]);
}

async function main(): Promise<number> {
  const parsed = parseArguments(process.argv.slice(2), process.env);
  if (parsed === undefined) {
    console.log(help.trimEnd());
    return exitCodes.ok;
  }
  const { listen, connect, command } = parsed;
  using bridge = await startBridge({
    listen,
    connect,
    onProblem: (problem) => console.error(`bureau-bridge: ${problem.message}`),
  });
  if (command.length > 0) return await runCommand(parsed, bridge);
  console.error(`bureau-bridge: ${formatEndpoint(bridge.listening)} → ${formatEndpoint(connect)}`);
  await new Promise<void>((resolve) => {
    process.once("SIGTERM", () => resolve());
    process.once("SIGINT", () => resolve());
  });
  return exitCodes.ok;
}

function report(error: unknown): number {
  const hint = isBureauError(error) && error.hint !== "" ? `\n  ${error.hint}` : "";
  console.error(`bureau-bridge: ${messageOf(error)}${hint}`);
  return error instanceof UsageError ? exitCodes.usage : exitCodes.failed;
}

void main()
  .catch(report)
  .then((code) => process.exit(code));
