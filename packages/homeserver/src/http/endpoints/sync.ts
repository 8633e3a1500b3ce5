/** GET /sync, and the filters clients store for it. */
import type { JsonObject } from "../../rooms/room-event.ts";
import type { UserDataStore } from "../../store/user-data-store.ts";
import { checkSyncFilter, compileSyncFilter, type SyncFilter } from "../../sync/event-filter.ts";
import type { SyncService } from "../../sync/sync-service.ts";
import { forbidden, invalidParam, notFound } from "../matrix-error.ts";
import { intQuery, param, parseJsonObject } from "../request.ts";
import { type AuthedRequest, authed, type Route } from "../router.ts";

type Deps = { readonly store: UserDataStore; readonly service: SyncService };

/** Longest a /sync may wait, in milliseconds. */
const TIMEOUT_MS_MAX = 10 * 60_000;

export function syncEndpoints(deps: Deps): Route[] {
  const requireSelf = (request: AuthedRequest): void => {
    if (param(request, "userId") !== request.session.userId)
      throw forbidden("Filters belong to the user of the token");
  };
  return [
    authed("GET", "/sync", (request) => sync(deps, request)),
    authed("POST", "/user/:userId/filter", async (request) => {
      requireSelf(request);
      const content = await request.json();
      checkSyncFilter(content);
      // The same filter has the same ID, so that clients that create one at every start do not accumulate filters.
      const id = new Bun.CryptoHasher("sha256").update(JSON.stringify(content)).digest("hex").slice(0, 20);
      deps.store.setFilter(request.session.userId, id, content);
      return { filter_id: id };
    }),
    authed("GET", "/user/:userId/filter/:filterId", (request) => {
      requireSelf(request);
      return storedFilter(deps, request, param(request, "filterId"));
    }),
  ];
}

function storedFilter(deps: Deps, request: AuthedRequest, id: string): JsonObject {
  const filter = deps.store.filter(request.session.userId, id);
  if (filter === undefined) throw notFound(`There is no filter ${id.slice(0, 80)}`);
  return filter;
}

function filterOf(deps: Deps, request: AuthedRequest): SyncFilter {
  const given = request.query.get("filter");
  if (given === null || given === "") return compileSyncFilter({});
  if (given.startsWith("{")) return compileSyncFilter(parseJsonObject(given));
  const stored = deps.store.filter(request.session.userId, given);
  if (stored === undefined) throw invalidParam(`There is no filter ${given.slice(0, 80)}`);
  return compileSyncFilter(stored);
}

async function sync(deps: Deps, request: AuthedRequest): Promise<JsonObject> {
  const { query, session, signal } = request;
  const presence = query.get("set_presence");
  if (presence !== null && !["online", "offline", "unavailable"].includes(presence)) {
    throw invalidParam(`set_presence must be online, offline or unavailable, not ${presence.slice(0, 40)}`);
  }
  const timeoutMs = intQuery(query, "timeout", 0, TIMEOUT_MS_MAX);
  if (timeoutMs > 0) request.holdOpen();
  const fullState = query.get("full_state") === "true";
  const since = query.get("since") || undefined;
  return deps.service.sync({ session, since, timeoutMs, fullState, filter: filterOf(deps, request), signal });
}
