#!/usr/bin/env bash
# Synapse of PyPI, the Matrix server: JSON and bearer tokens only, mail through a receiver of this run's own.
. "$APPS_LIB/app.sh"
fresh
need_pip matrix-synapse==1.163.2
cd "$DATA"
python3 -m synapse.app.homeserver --generate-config -H example.test -c "$DATA/homeserver.yaml" --report-stats=no --data-directory "$DATA" >"$LOG/setup.log" 2>&1
cat >"$DATA/more.yaml" <<YML
listeners: [{ port: $PORT, type: http, bind_addresses: [127.0.0.1], x_forwarded: true, resources: [{ names: [client], compress: false }] }]
public_baseurl: $PUBLIC_URL/
enable_registration: true
enable_registration_without_verification: true
suppress_key_server_warning: true
trusted_key_servers: []
bcrypt_rounds: 4
password_config: { enabled: true }
rc_login: { address: { per_second: 1000, burst_count: 1000 }, account: { per_second: 1000, burst_count: 1000 }, failed_attempts: { per_second: 1000, burst_count: 1000 } }
rc_registration: { per_second: 1000, burst_count: 1000 }
email: { smtp_host: 127.0.0.1, smtp_port: $((PORT + 50)), enable_tls: false, notif_from: "Matrix <matrix@example.test>", app_name: Matrix }
YML
cat >"$DATA/mail.py" <<PY
import asyncore, smtpd, time
class Mail(smtpd.SMTPServer):
    def process_message(self, peer, sender, to, data, **kw):
        open("$MAIL/%d.eml" % time.time_ns(), "wb").write(data)
Mail(("127.0.0.1", $((PORT + 50))), None)
asyncore.loop()
PY
start mail python3 -W ignore "$DATA/mail.py"
start synapse python3 -m synapse.app.homeserver -c "$DATA/homeserver.yaml" -c "$DATA/more.yaml"
ready /_matrix/client/versions 120
for u in alice bob; do
  register_new_matrix_user -c "$DATA/homeserver.yaml" -u "$u" -p "First-Pass-77-$u" --no-admin "http://127.0.0.1:$PORT" >>"$LOG/setup.log" 2>&1
done
python3 - "$DATA/homeserver.db" <<'PY'
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1])
for u in ("alice", "bob"):
    db.execute("insert into user_threepids (user_id, medium, address, validated_at, added_at) values (?, 'email', ?, ?, ?)",
               ("@%s:example.test" % u, u + "@example.test", int(time.time() * 1000), int(time.time() * 1000)))
db.commit()
PY
