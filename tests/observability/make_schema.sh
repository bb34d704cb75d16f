#!/bin/sh
# Make grafana-schema.json anew, from the types that Grafana publishes: npm and python3 are needed.
set -eu

version=13.2.3
target=$(cd "$(dirname "$0")" && pwd)/grafana-schema.json
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent "@grafana/schema@$version" typescript ts-json-schema-generator

types=node_modules/@grafana/schema/dist/types/raw
make_one() { # FILE TYPE NAME
    npx ts-json-schema-generator --path "$1" --type "$2" --no-type-check >"$3.json"
}
make_one "$types/dashboard/x/types.gen.d.ts" Dashboard dashboard
for panel in timeseries stat heatmap table; do
    make_one "$types/composable/$panel/panelcfg/x/types.gen.d.ts" Options "$panel-options"
    make_one "$types/composable/$panel/panelcfg/x/types.gen.d.ts" FieldConfig "$panel-custom"
done

python3 - "$target" "$version" <<'PYTHON'
import json
import sys
from pathlib import Path

target, version = sys.argv[1:]
whole = {
    "$comment": f"Made by make_schema.sh of the types in @grafana/schema {version} (Apache-2.0)",
    "dashboard": json.loads(Path("dashboard.json").read_text()),
}
for panel in ("timeseries", "stat", "heatmap", "table"):
    whole[panel] = {
        part: json.loads(Path(f"{panel}-{part}.json").read_text()) for part in ("options", "custom")
    }
Path(target).write_text(json.dumps(whole, separators=(",", ":"), sort_keys=True) + "\n")
PYTHON
