#!/usr/bin/env bash
# OctoPrint of PyPI: a single page, JSON.
. "$APPS_LIB/app.sh"
fresh
need_pip "OctoPrint==1.11.*"
cat >"$DATA/config.yaml" <<YAML
server: { firstRun: false, seenWizards: { corewizard: 4, backup: null, tracking: null }, onlineCheck: { enabled: false }, pluginBlacklist: { enabled: false } }
plugins: { _disabled: [softwareupdate, announcements, tracking, discovery, pluginmanager, virtual_printer] }
accessControl: { salt: "test-range-only-salt-0123456789ab" }
YAML
octoprint -b "$DATA" user add admin --password "$ADMIN_PASSWORD" --admin >"$LOG/users.log" 2>&1
for u in alice bob; do octoprint -b "$DATA" user add $u --password "First-Pass-77-$u" >>"$LOG/users.log" 2>&1; done
start octoprint octoprint -b "$DATA" serve --iknowwhatimdoing --host 127.0.0.1 --port "$PORT"
ready /api/version 120
