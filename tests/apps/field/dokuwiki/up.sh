#!/usr/bin/env bash
# DokuWiki of Debian, served by PHP itself.
. "$APPS_LIB/app.sh"
fresh
need_apt dokuwiki php-cli php-xml
site="$DATA/site"
cp -rL /usr/share/dokuwiki "$site" 2>/dev/null || true
cp -rL /var/lib/dokuwiki/data "$DATA/pages"; mkdir -p "$DATA/conf"; cp -rL /etc/dokuwiki/. "$DATA/conf"
rm -rf "$site/lib/plugins" "$site/lib/tpl"; cp -rL /var/lib/dokuwiki/lib/. "$site/lib/" 2>/dev/null || true
for d in attic cache index locks media meta pages tmp media_attic media_meta; do mkdir -p "$DATA/pages/$d"; done
sendmail_script
hash() { php -r 'echo password_hash($argv[1], PASSWORD_BCRYPT);' "$1"; }
{ echo "admin:$(hash "$ADMIN_PASSWORD"):Admin:admin@example.test:admin,user"
  for u in alice bob; do echo "$u:$(hash "First-Pass-77-$u"):$u:$u@example.test:user"; done; } >"$DATA/conf/users.auth.php"
printf '*\t@ALL\t8\n' >"$DATA/conf/acl.auth.php"
cat >"$DATA/conf/local.php" <<PHP
<?php
\$conf['useacl'] = 1; \$conf['authtype'] = 'authplain'; \$conf['superuser'] = '@admin'; \$conf['title'] = 'Wiki';
\$conf['savedir'] = '$DATA/pages'; \$conf['disableactions'] = ''; \$conf['autopasswd'] = 0; \$conf['mailfrom'] = 'wiki@example.test';
\$conf['resendpasswd'] = 1; \$conf['license'] = '';
PHP
cat >"$site/inc/preload.php" <<PHP
<?php
define('DOKU_CONF', '$DATA/conf/');
PHP
start php env PHP_CLI_SERVER_WORKERS=3 php -d sendmail_path="$DIR/sendmail" -d display_errors=0 -S "127.0.0.1:$PORT" -t "$site"
ready "/doku.php?id=start"
