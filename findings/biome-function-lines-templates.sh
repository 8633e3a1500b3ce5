#!/usr/bin/env bash
# Biome 2.5.15: `noExcessiveLinesPerFunction` with `skipBlankLines` counts a template literal as one line.
#
# With `skipBlankLines`, which is to leave out empty lines, a function of nine lines that contains one template literal of eight lines
# passes a limit of five; a function of nine lines with an array literal over as many lines does not. Functions that hold
# SQL, shell scripts or other text are therefore much longer than the limit without a diagnostic. Without the option the
# lines of the literal count.
#
# Output seen: the rule names `statements` and `array`, and not `template`.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix . @biomejs/biome@2.5.15
cat >biome.json <<'EOF'
{
  "linter": {
    "rules": {
      "recommended": false,
      "complexity": { "noExcessiveLinesPerFunction": { "level": "error", "options": { "maxLines": 5, "skipBlankLines": true } } }
    }
  }
}
EOF
cat >statements.js <<'EOF'
export function statements() {
  one();
  two();
  three();
  four();
  five();
  six();
  seven();
}
EOF
cat >array.js <<'EOF'
export function array() {
  return [
    1,
    2,
    3,
    4,
    5,
  ];
}
EOF
cat >template.js <<'EOF'
export function template() {
  return `
    one
    two
    three
    four
    five
  `;
}
EOF
refused=""
for name in statements array template; do
  node_modules/.bin/biome lint "$name.js" >/dev/null 2>&1 || refused="$refused $name"
done
echo "refused:$refused"
test "$refused" = " statements array"
