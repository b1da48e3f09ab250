#!/usr/bin/env bash
# pgAdmin of PyPI in server mode (Flask-Security), mail into files.
. "$APPS_LIB/app.sh"
fresh
need_pip "pgadmin4==9.*" gunicorn
package=$(python3 -c 'import importlib.util as u; print(u.find_spec("pgadmin4").submodule_search_locations[0])')
mkdir -p "$DATA/conf" "$DATA/storage"
cat >"$DATA/conf/config_system.py" <<PY
PY
export PGADMIN_SETUP_EMAIL=admin@example.test PGADMIN_SETUP_PASSWORD="$ADMIN_PASSWORD"
cat >"$DATA/settings.py" <<PY
SERVER_MODE = True
DATA_DIR = "$DATA"; SQLITE_PATH = "$DATA/pgadmin4.db"; SESSION_DB_PATH = "$DATA/sessions"; STORAGE_DIR = "$DATA/storage"
LOG_FILE = "$LOG/pgadmin.log"; AZURE_CREDENTIAL_CACHE_DIR = "$DATA/azure"; KERBEROS_CCACHE_DIR = "$DATA/krb"
UPGRADE_CHECK_ENABLED = False; MAIL_DEFAULT_SENDER = "pg@example.test"; MAIL_PORT = ${MAIL_PORT:-$((PORT + 50))}; MAIL_SERVER = "127.0.0.1"
MAIL_USE_SSL = False; MAIL_USE_TLS = False; CONSOLE_LOG_LEVEL = 40; MASTER_PASSWORD_REQUIRED = False
SECURITY_EMAIL_VALIDATOR_ARGS = {"check_deliverability": False}; CHECK_EMAIL_DELIVERABILITY = False; ALLOW_SPECIAL_EMAIL_DOMAINS = ["test"]
WTF_CSRF_HEADERS = ["X-pgA-CSRFToken"]
ENHANCED_COOKIE_PROTECTION = False; MFA_ENABLED = False; MAX_LOGIN_ATTEMPTS = 0
PY
# Its settings are read from a module of the system's: one that this run brings.
cat >"$DATA/app.py" <<PY
import importlib.util, sys
sys.path.insert(0, "$package")
spec = importlib.util.spec_from_file_location("config_local", "$DATA/settings.py")
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module); sys.modules["config_local"] = module
PY
cat >"$DATA/mail.py" <<PY
import asyncore, smtpd, time
class Mail(smtpd.SMTPServer):
    def process_message(self, peer, sender, to, data, **kw):
        open("$MAIL/%d.eml" % time.time_ns(), "wb").write(data)
Mail(("127.0.0.1", ${MAIL_PORT:-$((PORT + 50))}), None)
asyncore.loop()
PY
cat >"$DATA/serve.py" <<'PY'
from app import *
from pgAdmin4 import app
PY
cat >"$DATA/setup_all.py" <<PY
from app import *
sys.argv = ["setup.py", "setup-db"]
import runpy
try:
    runpy.run_path("$package/setup.py", run_name="__main__")
except SystemExit:
    pass
PY
cat >"$DATA/users.py" <<PY
from app import *
import runpy
for u in ("alice", "bob"):
    sys.argv = ["setup.py", "add-user", u + "@example.test", "First-Pass-77-" + u, "--role", "User"]
    try:
        runpy.run_path("$package/setup.py", run_name="__main__")
    except SystemExit:
        pass
PY
cd "$DATA"
start mail python3 -W ignore "$DATA/mail.py"
python3 "$DATA/setup_all.py" >"$LOG/setup.log" 2>&1
python3 "$DATA/users.py" >>"$LOG/setup.log" 2>&1
start gunicorn gunicorn -b "127.0.0.1:$PORT" -w 1 --threads 8 --chdir "$DATA" serve:app
ready /login 120
