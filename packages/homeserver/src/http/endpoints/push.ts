/** Push rules and pushers: stored for clients that set them. This server sends no push notifications. */
import * as v from "valibot";
import { isJsonObject, type Json, type JsonObject } from "../../rooms/room-event.ts";
import { defaultPushRules } from "../../sync/push-rules.ts";
import type { UserData } from "../../sync/user-data.ts";
import { invalidParam, notFound } from "../matrix-error.ts";
import { param, parseBody } from "../request.ts";
import { type AuthedRequest, authed, type Route } from "../router.ts";

type Deps = { readonly userData: UserData };
type Ruleset = Record<string, JsonObject[]>;

const kinds = ["override", "content", "room", "sender", "underride"] as const;
/** Rules of one kind. */
const RULES_MAX = 500;

const jsonValue = v.custom<Json>((value) => value !== undefined, "must be JSON");
const ruleSchema = v.object({
  actions: v.array(jsonValue),
  conditions: v.optional(v.array(v.custom<JsonObject>(isJsonObject, "must be an object"))),
  pattern: v.optional(v.string()),
});
const enabledSchema = v.object({ enabled: v.boolean() });
const actionsSchema = v.object({ actions: v.array(jsonValue) });
const pusherSchema = v.looseObject({
  app_id: v.pipe(v.string(), v.maxLength(64)),
  pushkey: v.pipe(v.string(), v.maxLength(512)),
  kind: v.nullable(v.string()),
  append: v.optional(v.boolean()),
});

export function pushEndpoints({ userData }: Deps): Route[] {
  return [...ruleEndpoints(userData), ...ruleWriteEndpoints(userData), ...pusherEndpoints(userData)];
}

function rulesOf(userData: UserData, userId: string): Ruleset {
  const stored = userData.accountData(userId, "", "m.push_rules")?.["global"];
  const rules = defaultPushRules(userId);
  if (!isJsonObject(stored)) return rules;
  for (const kind of kinds) {
    const list = stored[kind];
    if (Array.isArray(list)) rules[kind] = list.filter(isJsonObject);
  }
  return rules;
}

function kindOf(request: AuthedRequest): string {
  const kind = param(request, "kind");
  if (!kinds.some((known) => known === kind))
    throw invalidParam(`Rule kind must be one of ${kinds.join(", ")}`);
  return kind;
}

function findRule(rules: Ruleset, request: AuthedRequest): JsonObject {
  const rule = (rules[kindOf(request)] ?? []).find((one) => one["rule_id"] === param(request, "ruleId"));
  if (rule === undefined) throw notFound("There is no such push rule");
  return rule;
}

const one = "/pushrules/global/:kind/:ruleId";

function ruleEndpoints(userData: UserData): Route[] {
  const read = (request: AuthedRequest): Ruleset => rulesOf(userData, request.session.userId);
  return [
    ...["/pushrules", "/pushrules/"].map((path) =>
      authed("GET", path, (request) => ({ global: read(request) })),
    ),
    ...["/pushrules/global", "/pushrules/global/"].map((path) =>
      authed("GET", path, (request) => read(request)),
    ),
    authed("GET", one, (request) => findRule(read(request), request)),
    authed("GET", `${one}/enabled`, (request) => ({
      enabled: findRule(read(request), request)["enabled"] ?? true,
    })),
    authed("GET", `${one}/actions`, (request) => ({
      actions: findRule(read(request), request)["actions"] ?? [],
    })),
  ];
}

function ruleWriteEndpoints(userData: UserData): Route[] {
  const change = (request: AuthedRequest, edit: (rules: Ruleset) => void): JsonObject => {
    const { userId } = request.session;
    const rules = rulesOf(userData, userId);
    edit(rules);
    userData.setAccountData(userId, "", "m.push_rules", { global: rules });
    return {};
  };
  const others = (rules: Ruleset, request: AuthedRequest): JsonObject[] =>
    (rules[kindOf(request)] ?? []).filter((rule) => rule["rule_id"] !== param(request, "ruleId"));
  return [
    authed("PUT", one, async (request) => {
      const body = await parseBody(request, ruleSchema);
      const ruleId = param(request, "ruleId");
      if (ruleId.startsWith(".")) throw invalidParam("Rule IDs that start with a dot are the server's own");
      return change(request, (rules) => {
        const rest = others(rules, request);
        if (rest.length >= RULES_MAX) throw invalidParam(`More than ${RULES_MAX} rules of one kind`);
        const { actions, conditions, pattern } = body;
        const rule: JsonObject = { rule_id: ruleId, default: false, enabled: true, actions };
        if (conditions !== undefined) rule["conditions"] = conditions;
        if (pattern !== undefined) rule["pattern"] = pattern;
        rules[kindOf(request)] = [rule, ...rest];
      });
    }),
    authed("DELETE", one, (request) =>
      change(request, (rules) => {
        if (findRule(rules, request)["default"] === true)
          throw invalidParam("The server's own rules cannot be deleted");
        rules[kindOf(request)] = others(rules, request);
      }),
    ),
    authed("PUT", `${one}/enabled`, async (request) => {
      const { enabled } = await parseBody(request, enabledSchema);
      return change(request, (rules) => void Object.assign(findRule(rules, request), { enabled }));
    }),
    authed("PUT", `${one}/actions`, async (request) => {
      const { actions } = await parseBody(request, actionsSchema);
      return change(request, (rules) => void Object.assign(findRule(rules, request), { actions }));
    }),
  ];
}

function pusherEndpoints({ store }: UserData): Route[] {
  return [
    authed("GET", "/pushers", ({ session }) => ({ pushers: store.pushers(session.userId) })),
    authed("POST", "/pushers/set", async (request) => {
      const json = await request.json();
      const body = await parseBody({ ...request, json: async () => json }, pusherSchema);
      const { userId } = request.session;
      if (body.kind === null) store.deletePusher(userId, body.app_id, body.pushkey);
      else store.setPusher(userId, body.app_id, body.pushkey, json);
      return {};
    }),
    authed("GET", "/notifications", () => ({ notifications: [] })),
  ];
}
