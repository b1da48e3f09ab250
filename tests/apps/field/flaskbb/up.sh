#!/usr/bin/env bash
# FlaskBB of PyPI (Flask-Login, WTForms) on sqlite, mail through a receiver of this run's own. Needs Python 3.12.
. "$APPS_LIB/app.sh"
fresh
export PYENV_VERSION="${PYENV_VERSION:-3.12.1}"
need_pip flaskbb==2.2.0 gunicorn
unset PYENV_VERSION
# It counts on annotations that are not evaluated, as from Python 3.14 on.
( cd "$VENV"/lib/python3*/site-packages/flaskbb
  grep -rL "^from __future__ import annotations" --include=*.py . | while read -r f; do
    sed -i -e 's/^from __future__ import .*//' -e '1i from __future__ import annotations' "$f"
  done )
cat >"$DATA/flaskbb.cfg" <<PY
import os
DEBUG = False; TESTING = False; PREFERRED_URL_SCHEME = "http"
SQLALCHEMY_DATABASE_URI = "sqlite:///$DATA/bb.sqlite"; SQLALCHEMY_TRACK_MODIFICATIONS = False
SECRET_KEY = "test-range-only-4711"; WTF_CSRF_ENABLED = True; WTF_CSRF_SECRET_KEY = "test-range-only-4712"
LOGIN_VIEW = "auth.login"; REAUTH_VIEW = "auth.reauth"; REMEMBER_COOKIE_NAME = "remember_token"
WHOOSHEE_DIR = "$DATA/whoosh"; REDIS_ENABLED = False; RATELIMIT_ENABLED = False; RATELIMIT_STORAGE_URL = "memory://"; RATELIMIT_STORAGE_URI = "memory://"; CACHE_TYPE = "SimpleCache"
CELERY_CONFIG = {"task_always_eager": True, "broker_url": "memory://", "result_backend": "cache+memory://"}
MAIL_SERVER = "127.0.0.1"; MAIL_PORT = $((PORT + 50)); MAIL_USE_SSL = False; MAIL_USE_TLS = False
MAIL_DEFAULT_SENDER = ("Board", "board@example.com"); ADMINS = ["admin@example.com"]
PLUGINS_FOLDER = "$DATA/plugins"; LOG_PATH = "$LOG"; LOG_CONF_FILE = None; SEND_LOGS = False
LOG_DEFAULT_CONF = {"version": 1, "disable_existing_loggers": False}
PY
cat >"$DATA/users.py" <<PY
from flaskbb.app import create_app
from flaskbb.utils.populate import create_user
app = create_app("$DATA/flaskbb.cfg", instance_path="$DATA")
with app.app_context():
    for u in ("alice", "bob"):
        create_user(u, "First-Pass-77-" + u, u + "@example.com", "member")
PY
cat >"$DATA/serve.py" <<PY
from flaskbb.app import create_app
app = create_app("$DATA/flaskbb.cfg", instance_path="$DATA")
PY
cat >"$DATA/mail.py" <<PY
import asyncore, smtpd, time
class Mail(smtpd.SMTPServer):
    def process_message(self, peer, sender, to, data, **kw):
        open("$MAIL/%d.eml" % time.time_ns(), "wb").write(data)
Mail(("127.0.0.1", $((PORT + 50))), None)
asyncore.loop()
PY
cd "$DATA"
PATH="${PATH#*:}" start mail python3 -W ignore "$DATA/mail.py"
flaskbb --config "$DATA/flaskbb.cfg" install -f -n -u admin -e admin@example.com -p "$ADMIN_PASSWORD" >"$LOG/setup.log" 2>&1 || true
"$VENV/bin/python" "$DATA/users.py" >>"$LOG/setup.log" 2>&1
start gunicorn gunicorn -b "127.0.0.1:$PORT" -w 1 --threads 4 --chdir "$DATA" serve:app
ready /auth/login 120
