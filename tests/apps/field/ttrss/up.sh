#!/usr/bin/env bash
# Tiny Tiny RSS of Debian before a MariaDB of this run's own; PHP itself serves it.
. "$APPS_LIB/app.sh"
. "$APPS_LIB/php.sh"
fresh
need_apt tt-rss php-cli php-mysql php-mbstring php-xml php-intl php-curl mariadb-server
mariadb_up
sql "create database ttrss character set utf8mb4; create user ttrss@localhost identified by 'x'; grant all on ttrss.* to ttrss@localhost"
mariadb --no-defaults -uroot -S "$DB_SOCKET" ttrss </usr/share/tt-rss/schema/ttrss_schema_mysql.sql
site="$DATA/site"
cp -rL /usr/share/tt-rss/www "$site" 2>/dev/null || true
for f in "$DATA/lock" "$DATA/cache" "$DATA/cache/images" "$DATA/cache/upload" "$DATA/cache/export" "$DATA/cache/simplepie" "$DATA/cache/js" "$DATA/sessions" "$site/feed-icons"; do mkdir -p "$f"; done
rm -f "$site/config.php"
sed -e "s#include_once('/etc/tt-rss/database.php');#\$dbtype='mysql'; \$dbserver='localhost'; \$dbport=''; \$dbuser='ttrss'; \$dbname='ttrss'; \$dbpass='x';#" \
  -e "s#define('SELF_URL_PATH', .*#define('SELF_URL_PATH', '$PUBLIC_URL/');#" -e "s#define('LOCK_DIRECTORY', .*#define('LOCK_DIRECTORY', '$DATA/lock');#" \
  -e "s#define('CACHE_DIR', .*#define('CACHE_DIR', '$DATA/cache');#" -e "s#define('ICONS_DIR', .*#define('ICONS_DIR', '$site/feed-icons');#" \
  -e "s#define('SMTP_FROM_ADDRESS', .*#define('SMTP_FROM_ADDRESS', 'rss@example.test');#" /usr/share/tt-rss/www/config.php >"$site/config.php"
for u in admin alice bob; do
  p="First-Pass-77-$u"; [ "$u" != admin ] || p="$ADMIN_PASSWORD"
  sql "insert into ttrss.ttrss_users (login, pwd_hash, access_level, email, salt) values ('$u', concat('SHA1:', sha1('$p')), if('$u'='admin', 10, 0), '$u@example.test', '') on duplicate key update pwd_hash = values(pwd_hash)"
done
sendmail_script
# It refuses to be root.
chown -R www-data "$DATA/site" "$DATA/lock" "$DATA/cache" "$DATA/sessions"
chmod 755 "$DATA" "$DIR" "$RUN"
start php runuser -u www-data -- env PHP_CLI_SERVER_WORKERS=3 php -d sendmail_path="$DIR/sendmail" -d session.save_path="$DATA/sessions" -d mysqli.default_socket="$DB_SOCKET" -d pdo_mysql.default_socket="$DB_SOCKET" -d display_errors=0 -S "127.0.0.1:$PORT" -t "$site"
ready /index.php
