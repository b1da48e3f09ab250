#!/usr/bin/env bash
# The administration of Homebridge, of npm (NestJS): bearer tokens, a second factor in the same request.
. "$APPS_LIB/app.sh"
fresh
need_npm homebridge homebridge-config-ui-x@5
cat >"$DATA/config.json" <<JSON
{ "bridge": { "name": "range", "username": "0E:00:00:00:00:01", "port": $((PORT + 50)), "pin": "031-45-154" }, "accessories": [],
  "platforms": [ { "platform": "config", "name": "Config", "port": $PORT, "host": "127.0.0.1", "auth": "form" } ] }
JSON
cd "$DATA"
export UIX_STORAGE_PATH="$DATA" UIX_CONFIG_PATH="$DATA/config.json" UIX_BASE_PATH="$NPM/node_modules/homebridge-config-ui-x"
start homebridge node "$NPM/node_modules/homebridge-config-ui-x/dist/bin/standalone.js" -U "$DATA" -P "$NPM/node_modules"
ready /api/auth/settings 120
base="http://127.0.0.1:$PORT/api"
post() { curl -s -X POST "$base/$1" -H 'content-type: application/json' -H "authorization: Bearer ${3:-}" -d "$2"; }
first=$(curl -s "$base/setup-wizard/get-setup-wizard-token" | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
post setup-wizard/create-first-user "{\"name\":\"admin\",\"username\":\"admin\",\"password\":\"$ADMIN_PASSWORD\",\"admin\":true}" "$first" >"$LOG/setup.log"
token=$(post auth/login "{\"username\":\"admin\",\"password\":\"$ADMIN_PASSWORD\"}" | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
post users '{"name":"alice","username":"alice","password":"First-Pass-77-alice","admin":false}' "$token" >>"$LOG/setup.log"
