#!/usr/bin/env bash
# Roundcube of Debian before a small dovecot; everything is ?_task=…&_action=….
. "$APPS_LIB/app.sh"
fresh
need_apt roundcube-core roundcube-sqlite3 php-cli dovecot-imapd sqlite3
IMAP=$((PORT + 60))
site="$DATA/site"
cp -rL /usr/share/roundcube "$site" 2>/dev/null || true
rm -rf "$site/config" "$site/plugins"; cp -rL /usr/share/roundcube/plugins "$site/plugins" 2>/dev/null || mkdir -p "$site/plugins"
mkdir -p "$site/config" "$site/temp" "$site/logs" "$DATA/boxes"; cp -L /etc/roundcube/defaults.inc.php "$site/config/"; cp -L /etc/roundcube/mimetypes.php "$site/config/" 2>/dev/null || true
cat >"$site/config/config.inc.php" <<PHP
<?php
\$config['db_dsnw'] = 'sqlite:///$DATA/roundcube.db?mode=0640'; \$config['imap_host'] = '127.0.0.1:$IMAP'; \$config['smtp_host'] = '127.0.0.1:1';
\$config['des_key'] = 'test-range-only-24-bytes'; \$config['plugins'] = []; \$config['skin'] = 'elastic'; \$config['login_rate_limit'] = 1000;
\$config['log_dir'] = '$LOG/'; \$config['temp_dir'] = '$DATA/'; \$config['enable_spellcheck'] = false; \$config['mime_types'] = '/etc/mime.types';
PHP
sqlite3 "$DATA/roundcube.db" <"$site/SQL/sqlite.initial.sql" 2>/dev/null || php -r '$d = new PDO("sqlite:$argv[1]"); $d->exec(file_get_contents($argv[2]));' "$DATA/roundcube.db" "$site/SQL/sqlite.initial.sql"
id=$(id -u nobody)
for u in alice bob; do echo "$u:{PLAIN}First-Pass-77-$u::::::"; done >"$DATA/passwd"
cat >"$DATA/dovecot.conf" <<CONF
base_dir = $RUN/dovecot
log_path = $LOG/dovecot.log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:$DATA/boxes/%u
first_valid_uid = 1
auth_failure_delay = 0
passdb { 
  driver = passwd-file
  args = $DATA/passwd
}
userdb { 
  driver = static
  args = uid=$id gid=$id home=$DATA/boxes/%u
}
service imap-login {
  inet_listener imap {
    port = $IMAP
  }
  inet_listener imaps {
    port = 0
  }
}
CONF
chown -R nobody "$DATA/boxes"; chmod 755 "$DIR" "$DATA" "$RUN"
start dovecot dovecot -F -c "$DATA/dovecot.conf"
start php env ROUNDCUBE_CONFIG_DIR="$site/config" RCUBE_CONFIG_PATH="$site/config/" PHP_CLI_SERVER_WORKERS=3 php -d display_errors=0 -d error_log="$LOG/php.log" -d session.gc_probability=0 -S "127.0.0.1:$PORT" -t "$site"
ready /
