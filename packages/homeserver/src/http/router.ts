/**
 * The route table: a tree over path segments, split on the raw `/` and decoded afterwards, because localparts hold
 * slashes as %2F. Literal segments win over parameters.
 */
import type { Session } from "../auth/sessions.ts";
import type { JsonObject } from "../rooms/room-event.ts";
import type { RequestContext } from "./request.ts";

export type Method = "GET" | "PUT" | "POST" | "DELETE";
/** The JSON of a 201. */
export class Created {
  constructor(readonly body: JsonObject) {}
}

/** The JSON of a 200, or a 201; anything else is thrown as a MatrixError. */
export type Answer = JsonObject | JsonObject[] | Created;
export type Handler = (request: RequestContext) => Answer | Promise<Answer>;
export type AuthedRequest = RequestContext & { readonly session: Session };

export type Route = {
  readonly methods: readonly Method[];
  readonly path: string;
  /** "none": ignores tokens. "required": answers 401 without one. */
  readonly auth: "none" | "required";
  readonly handle: Handler;
  /** Its cost, in ordinary requests. */
  readonly cost: number;
};

/** Versions a Client-Server path is served under. */
const clientVersions = ["r0", "v1", "v3"];

const routesOf = (
  method: Method | readonly Method[],
  path: string,
  auth: Route["auth"],
  handle: Handler,
  cost = 1,
): Route => ({
  methods: typeof method === "string" ? [method] : method,
  path,
  auth,
  handle,
  cost,
});

/** A route that needs an access token. `path` is under `/_matrix/client/<version>` unless it starts with `/_`. */
export const authed = (
  method: Method | readonly Method[],
  path: string,
  handle: (request: AuthedRequest) => ReturnType<Handler>,
  cost = 1,
): Route => routesOf(method, path, "required", (request) => handle(withSession(request)), cost);

/** A route that needs no access token. */
export const open = (method: Method | readonly Method[], path: string, handle: Handler): Route =>
  routesOf(method, path, "none", handle);

function withSession(request: RequestContext): AuthedRequest {
  if (request.session === undefined) throw new Error("a route that needs a session was called without one");
  return { ...request, session: request.session };
}

type Node = {
  literals: Map<string, Node>;
  parameter?: { name: string; node: Node };
  routes: Map<Method, Route>;
};
export type Match =
  | { readonly kind: "route"; readonly route: Route; readonly params: Readonly<Record<string, string>> }
  | { readonly kind: "wrong-method"; readonly allowed: readonly Method[] }
  | { readonly kind: "unknown" };

const emptyNode = (): Node => ({ literals: new Map(), routes: new Map() });

export class Router {
  readonly #root = emptyNode();

  constructor(routes: Iterable<Route>) {
    for (const route of routes) {
      const paths =
        route.path.startsWith("/_") || route.path.startsWith("/.")
          ? [route.path]
          : clientVersions.map((version) => `/_matrix/client/${version}${route.path}`);
      for (const path of paths) this.#add(path, route);
    }
  }

  #add(path: string, route: Route): void {
    let node = this.#root;
    for (const segment of path.split("/").slice(1)) {
      if (segment.startsWith(":")) {
        node.parameter ??= { name: "", node: emptyNode() };
        node = node.parameter.node;
        continue;
      }
      const next = node.literals.get(segment) ?? emptyNode();
      node.literals.set(segment, next);
      node = next;
    }
    for (const method of route.methods) {
      if (node.routes.has(method)) throw new Error(`two routes for ${method} ${path}`);
      node.routes.set(method, route);
    }
  }

  /** Finds the route of a raw (still encoded) path. Throws URIError when a parameter is not valid UTF-8. */
  match(method: string, rawPath: string): Match {
    const segments = rawPath.split("/").slice(1);
    const values: string[] = [];
    const node = find(this.#root, segments, 0, values);
    if (node === undefined) return { kind: "unknown" };
    const route = node.routes.get(method as Method);
    if (route === undefined) return { kind: "wrong-method", allowed: [...node.routes.keys()] };
    const names = route.path.split("/").filter((segment) => segment.startsWith(":"));
    const params: Record<string, string> = {};
    for (const [index, name] of names.entries())
      params[name.slice(1)] = decodeURIComponent(values[index] ?? "");
    return { kind: "route", route, params };
  }
}

function find(node: Node, segments: string[], index: number, values: string[]): Node | undefined {
  const segment = segments[index];
  if (segment === undefined) return node.routes.size > 0 ? node : undefined;
  const literal = node.literals.get(segment);
  const viaLiteral = literal && find(literal, segments, index + 1, values);
  if (viaLiteral !== undefined) return viaLiteral;
  if (node.parameter === undefined) return undefined;
  values.push(segment);
  const viaParameter = find(node.parameter.node, segments, index + 1, values);
  if (viaParameter === undefined) values.pop();
  return viaParameter;
}
