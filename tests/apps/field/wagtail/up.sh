#!/usr/bin/env bash
# Wagtail of PyPI: Django's views below an administration of its own, mail into files.
. "$APPS_LIB/app.sh"
fresh
need_pip "wagtail==7.*" gunicorn
cd "$DATA"
wagtail start shop . >"$LOG/start.log" 2>&1
cat >shop/settings/local.py <<PY
DEBUG = False
ALLOWED_HOSTS = ["*"]
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"; EMAIL_FILE_PATH = "$MAIL"
SECRET_KEY = "test-range-only"; WAGTAILADMIN_BASE_URL = "$PUBLIC_URL"
STORAGES = {"default": {"BACKEND": "django.core.files.storage.FileSystemStorage"}, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
PY
export DJANGO_SETTINGS_MODULE=shop.settings.dev PYTHONPATH="$DATA"
sed -i 's/^DEBUG = True/DEBUG = False/; /EMAIL_BACKEND/d' shop/settings/dev.py
python3 manage.py migrate -v0 >"$LOG/migrate.log" 2>&1
python3 manage.py shell -c "
from django.contrib.auth.models import User
User.objects.create_superuser('admin', 'admin@example.test', '$ADMIN_PASSWORD')
for n in ('alice', 'bob'): User.objects.create_superuser(n, n + '@example.test', 'First-Pass-77-' + n)" >>"$LOG/migrate.log" 2>&1
start gunicorn gunicorn -b "127.0.0.1:$PORT" -w 1 --threads 4 --chdir "$DATA" shop.wsgi
ready /admin/login/ 90
