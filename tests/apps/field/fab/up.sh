#!/usr/bin/env bash
# An application on Flask-AppBuilder of PyPI: sessions in the cookie itself, JSON tokens beside.
. "$APPS_LIB/app.sh"
fresh
need_pip "Flask-AppBuilder==5.*" gunicorn
cat >"$DATA/fabsite.py" <<PY
from flask import Flask
from flask_appbuilder import AppBuilder
from flask_appbuilder.utils.legacy import get_sqla_class
app = Flask(__name__)
app.config.update(SECRET_KEY="test-range-only", SQLALCHEMY_DATABASE_URI="sqlite:///$DATA/app.db", WTF_CSRF_ENABLED=True, AUTH_TYPE=1,
    AUTH_USER_REGISTRATION=False, FAB_API_SWAGGER_UI=False, AUTH_RATE_LIMITED=False, RATELIMIT_ENABLED=False, AUTH_ROLE_PUBLIC="Public")
db = get_sqla_class()()
db.init_app(app)
with app.app_context():
    builder = AppBuilder(app, db.session)
    sm = builder.sm
    if not sm.find_user("admin"):
        role = sm.find_role("Admin")
        sm.add_user("admin", "A", "A", "admin@example.test", role, "$ADMIN_PASSWORD")
        for n in ("alice", "bob"):
            sm.add_user(n, n, "X", n + "@example.test", role, "First-Pass-77-" + n)
PY
cd "$DATA"
start gunicorn gunicorn -b "127.0.0.1:$PORT" -w 1 --threads 4 --chdir "$DATA" fabsite:app
ready /login/ 90
