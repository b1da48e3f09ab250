#!/usr/bin/env bash
# Strapi of npm, its API and the accounts of its visitors and administrators, on sqlite, no panel built.
. "$APPS_LIB/app.sh"
fresh
need_npm @strapi/strapi@5.30.0 @strapi/plugin-users-permissions@5.30.0 better-sqlite3 react@18 react-dom@18 react-router-dom@6 styled-components@6
app="$DATA/app"
mkdir -p "$app/config" "$app/public/uploads" "$app/src/api" "$app/src/extensions" "$app/src/admin" "$app/database/migrations"
ln -s "$NPM/node_modules" "$app/node_modules"
cat >"$app/package.json" <<JSON
{ "name": "range", "version": "0.0.1", "private": true, "strapi": { "uuid": false }, "dependencies": { "@strapi/strapi": "5.30.0", "@strapi/plugin-users-permissions": "5.30.0", "better-sqlite3": "*" } }
JSON
cat >"$app/config/server.js" <<JS
module.exports = () => ({ host: '127.0.0.1', port: $PORT, url: '$PUBLIC_URL', app: { keys: ['k1-test-range', 'k2-test-range'] }, proxy: true });
JS
cat >"$app/config/admin.js" <<'JS'
module.exports = () => ({ auth: { secret: 'test-range-only-4711' }, apiToken: { salt: 'salt-test-range' }, transfer: { token: { salt: 'salt2-test-range' } }, secrets: { encryptionKey: 'test-range-only-4711-4711-4711-47' }, serveAdminPanel: false, flags: { nps: false, promoteEE: false }, rateLimit: { enabled: false } });
JS
cat >"$app/config/database.js" <<JS
module.exports = () => ({ connection: { client: 'sqlite', connection: { filename: '$DATA/strapi.sqlite' }, useNullAsDefault: true } });
JS
cat >"$app/config/middlewares.js" <<'JS'
module.exports = ['strapi::logger', 'strapi::errors', 'strapi::security', 'strapi::cors', 'strapi::poweredBy', 'strapi::query', 'strapi::body', 'strapi::session', 'strapi::favicon', 'strapi::public'];
JS
cat >"$DATA/mailer.js" <<JS
const fs = require('fs');
module.exports = { init: () => ({ send: async (o) => fs.writeFileSync('$MAIL/' + Date.now() + '.eml', 'To: ' + o.to + '\nContent-Type: text/plain\n\n' + (o.html || o.text) + '\n') }) };
JS
cat >"$app/config/plugins.js" <<JS
module.exports = () => ({ email: { config: { provider: '$DATA/mailer.js', settings: { defaultFrom: 'range@example.test' } } }, 'users-permissions': { config: { jwtSecret: 'test-range-only-4712', ratelimit: { enabled: false } } } });
JS
cat >"$app/config/api.js" <<'JS'
module.exports = { rest: { defaultLimit: 25 } };
JS
cat >"$DATA/serve.js" <<JS
process.chdir('$app');
const { createStrapi } = require('$NPM/node_modules/@strapi/strapi');
(async () => {
  const app = await createStrapi({ appDir: '$app', distDir: '$app', autoReload: false, serveAdminPanel: false }).start();
  const settings = await app.store({ type: 'plugin', name: 'users-permissions', key: 'advanced' });
  const role = await app.db.query('admin::role').findOne({ where: { code: 'strapi-super-admin' } });
  await app.service('admin::user').create({ email: 'admin@example.test', firstname: 'A', lastname: 'D', password: '$ADMIN_PASSWORD', isActive: true, roles: [role.id] });
  const member = await app.db.query('plugin::users-permissions.role').findOne({ where: { type: 'authenticated' } });
  for (const n of ['alice', 'bob'])
    await app.plugin('users-permissions').service('user').add({ username: n, email: n + '@example.test', password: 'First-Pass-77-' + n, provider: 'local', confirmed: true, blocked: false, role: member.id });
  const s = await settings.get(); await settings.set({ value: { ...s, email_reset_password: '$PUBLIC_URL/reset-password' } });
  console.log('accounts made');
})().catch((e) => { console.error(e); process.exit(1); });
JS
export STRAPI_TELEMETRY_DISABLED=true NODE_ENV=production STRAPI_DISABLE_UPDATE_NOTIFICATION=true
start strapi node "$DATA/serve.js"
for _ in $(seq 180); do grep -q 'accounts made' "$LOG/strapi.log" && break; sleep 0.5; done
ready /_health
