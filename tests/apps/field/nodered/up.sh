#!/usr/bin/env bash
# Node-RED of npm: OAuth's password grant, tokens in a header.
. "$APPS_LIB/app.sh"
fresh
need_npm node-red@4
hash() { node -e 'console.log(require(process.argv[1] + "/node_modules/bcryptjs").hashSync(process.argv[2], 8))' "$NPM" "$1"; }
cat >"$DATA/settings.js" <<JS
module.exports = { uiHost: "127.0.0.1", uiPort: $PORT, flowFile: "flows.json", credentialSecret: "test-range-only", telemetry: { enabled: false },
  adminAuth: { type: "credentials", users: [ { username: "admin", password: "$(hash "$ADMIN_PASSWORD")", permissions: "*" }, { username: "alice", password: "$(hash First-Pass-77-alice)", permissions: "*" } ] } };
JS
start nodered node-red -u "$DATA" -s "$DATA/settings.js"
ready /auth/login 120
