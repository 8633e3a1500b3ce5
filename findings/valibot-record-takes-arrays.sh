#!/usr/bin/env bash
# valibot 1.5.0 (npm): v.record, v.object and v.looseObject accept an array, and give back a plain object.
#
# A record of strings to unknown values parses [1, 2] and answers { "0": 1, "1": 2 }. v.object({}) parses it to {}. An array
# in a place where JSON wants an object passes such a schema without an issue, and is another thing afterwards.
#
# Seen: record={"0":1,"1":2} object={} looseObject={"0":1,"1":2}
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix . valibot@1.5.0
cat > parse.mjs <<'JS'
import * as v from "valibot";
const parsed = (schema) => JSON.stringify(v.parse(schema, [1, 2]));
const record = parsed(v.record(v.string(), v.unknown()));
console.log(`record=${record} object=${parsed(v.object({}))} looseObject=${parsed(v.looseObject({}))}`);
JS
seen=$(node parse.mjs)
echo "$seen"
[ "$seen" = 'record={"0":1,"1":2} object={} looseObject={"0":1,"1":2}' ]
