#!/usr/bin/env bash
# MediaWiki of Debian on sqlite, served by PHP itself.
. "$APPS_LIB/app.sh"
fresh
need_apt mediawiki php-cli php-sqlite3 php-mbstring php-xml php-intl
site="$DATA/site"
cp -rL /usr/share/mediawiki "$site" 2>/dev/null || true
rm -f "$site/LocalSettings.php"
sendmail_script
cd "$site"
php maintenance/install.php --dbtype sqlite --dbpath "$DATA" --server "$PUBLIC_URL" --scriptpath "" \
  --pass "$ADMIN_PASSWORD" Wiki Admin >"$LOG/install.log" 2>&1
cat >>LocalSettings.php <<'PHP'
$wgEnableEmail = true; $wgEmailAuthentication = false; $wgPasswordResetRoutes = ['username' => true, 'email' => true];
$wgRateLimits = []; $wgPasswordAttemptThrottle = []; $wgMainCacheType = CACHE_DB; $wgPasswordSender = 'wiki@example.test';
$wgPasswordReminderResendTime = 0; $wgJobRunRate = 0;
PHP
for u in Alice Bob; do php maintenance/createAndPromote.php "$u" "First-Pass-77-${u,}" >>"$LOG/install.log" 2>&1; done
for u in Alice Bob; do php maintenance/resetUserEmail.php --no-reset-password "$u" "${u,}@example.test" >>"$LOG/install.log" 2>&1; done
start php env PHP_CLI_SERVER_WORKERS=3 php -d sendmail_path="$DIR/sendmail" -d upload_max_filesize=8M -S "127.0.0.1:$PORT" -t "$site"
ready /index.php/Main_Page
