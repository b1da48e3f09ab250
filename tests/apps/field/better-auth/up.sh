#!/usr/bin/env bash
# better-auth of npm with its plugins for names and second factors, behind Node's own server, on sqlite.
. "$APPS_LIB/app.sh"
fresh
need_npm better-auth@1 better-sqlite3
cat >"$DATA/serve.mjs" <<JS
import { createRequire } from 'module';
import { createServer } from 'http';
import { writeFileSync } from 'fs';
const at = createRequire('$NPM/node_modules/x.js');
const load = async (name) => import(at.resolve(name));
const { betterAuth } = await load('better-auth');
const { toNodeHandler } = await load('better-auth/node');
const { twoFactor, username, admin } = await load('better-auth/plugins');
const { getMigrations } = await load('better-auth/db/migration').catch(() => load('better-auth/db'));
const { default: Database } = await load('better-sqlite3');
const options = {
  appName: 'range', baseURL: '$PUBLIC_URL', secret: 'test-range-only-4711-4711-4711-4711', database: new Database('$DATA/auth.sqlite'), trustedOrigins: ['*', '$PUBLIC_URL'],
  rateLimit: { enabled: false }, telemetry: { enabled: false }, logger: { level: 'error' },
  emailAndPassword: { enabled: true, sendResetPassword: async ({ user, url, token }) =>
    writeFileSync('$MAIL/' + Date.now() + '.eml', 'To: ' + user.email + '\nContent-Type: text/plain\n\n' + url + '\n') },
  plugins: [twoFactor(), username(), admin({ adminUserIds: [] })],
};
await (await getMigrations(options)).runMigrations();
const auth = betterAuth(options);
for (const name of ['alice', 'bob'])
  await auth.api.signUpEmail({ body: { email: name + '@example.test', username: name, name, password: 'First-Pass-77-' + name } });
const handle = toNodeHandler(auth);
createServer((q, a) => q.url.startsWith('/api/auth') ? handle(q, a) : (a.setHeader('content-type', 'text/html'), a.end('<div id=app></div>'))).listen($PORT, '127.0.0.1');
JS
start betterauth node "$DATA/serve.mjs"
ready /api/auth/ok
