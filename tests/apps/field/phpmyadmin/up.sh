#!/usr/bin/env bash
# phpMyAdmin of Debian before a MariaDB of this run's own; PHP itself serves it.
. "$APPS_LIB/app.sh"
. "$APPS_LIB/php.sh"
fresh
need_apt phpmyadmin php-cli php-mysql php-mbstring php-xml mariadb-server
mariadb_up
sql "alter user root@localhost identified by '$ADMIN_PASSWORD'; create user alice@'%' identified by 'First-Pass-77-alice'; create database notes; grant all on notes.* to alice@'%'" 
site="$DATA/site"
cp -rL /usr/share/phpmyadmin "$site" 2>/dev/null || true
mkdir -p "$DATA/tmp" "$DATA/sessions"
cat >"$site/config.inc.php" <<PHP
<?php
\$cfg['blowfish_secret'] = 'test-range-only-0123456789abcdef'; \$cfg['TempDir'] = '$DATA/tmp'; \$cfg['VersionCheck'] = false; \$cfg['SendErrorReports'] = 'never';
\$cfg['Servers'][1] = ['auth_type' => 'cookie', 'host' => 'localhost', 'socket' => '$DB_SOCKET', 'compress' => false, 'AllowNoPassword' => false, 'hide_connection_errors' => true];
PHP
[ ! -e "$site/libraries/vendor_config.php" ] || sed -i "s#'configFile' => .*#'configFile' => '$site/config.inc.php',#; s#define('CONFIG_FILE', .*#define('CONFIG_FILE', '$site/config.inc.php');#" "$site/libraries/vendor_config.php"
start php env PHP_CLI_SERVER_WORKERS=3 php -d session.save_path="$DATA/sessions" -d display_errors=0 -S "127.0.0.1:$PORT" -t "$site"
ready /index.php
