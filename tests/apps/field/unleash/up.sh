#!/usr/bin/env bash
# Unleash of npm (Express, sessions in PostgreSQL), with a database of its own and a receiver for its mail.
. "$APPS_LIB/app.sh"
fresh
need_apt postgresql
need_npm unleash-server@8
pg=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
mkdir -p "$DATA/pg"; chown postgres "$DATA/pg" "$RUN"
runuser -u postgres -- "$pg/initdb" -D "$DATA/pg" -A trust -U unleash >"$LOG/initdb.log" 2>&1
start postgres runuser -u postgres -- "$pg/postgres" -D "$DATA/pg" -c listen_addresses= -k "$RUN" -c fsync=off
for _ in $(seq 60); do "$pg/pg_isready" -q -h "$RUN" && break; sleep 0.5; done
"$pg/createdb" -h "$RUN" -U unleash unleash
cat >"$DATA/mail.py" <<PY
import asyncore, smtpd, time
class Mail(smtpd.SMTPServer):
    def process_message(self, peer, sender, to, data, **kw):
        open("$MAIL/%d.eml" % time.time_ns(), "wb").write(data)
Mail(("127.0.0.1", $((PORT + 50))), None)
asyncore.loop()
PY
cat >"$DATA/serve.mjs" <<JS
import { createRequire } from 'module';
const { start } = await import(createRequire('$NPM/node_modules/').resolve('unleash-server'));
const app = await start({
  db: { host: '$RUN', user: 'unleash', password: 'x', database: 'unleash', ssl: false },
  server: { host: '127.0.0.1', port: $PORT, unleashUrl: '$PUBLIC_URL' }, versionCheck: { enable: false }, telemetry: false,
  authentication: { initialAdminUser: { username: 'admin', password: '$ADMIN_PASSWORD' } },
  email: { host: '127.0.0.1', port: $((PORT + 50)), secure: false, sender: 'unleash@example.com', optionalHeaders: {} },
  rateLimiting: { simpleLoginMaxPerMinute: 1000, passwordResetMaxPerMinute: 1000 },
});
const users = app.services.userService;
for (const name of ['alice', 'bob'])
  await users.createUser({ username: name, email: name + '@example.com', name, password: 'First-Pass-77-' + name, rootRole: 2 });
console.log('users made');
JS
export CHECK_VERSION=false SEND_TELEMETRY=false
start mail python3 -W ignore "$DATA/mail.py"
start unleash node "$DATA/serve.mjs"
for _ in $(seq 120); do grep -q 'users made' "$LOG/unleash.log" && break; sleep 0.5; done
ready /health
