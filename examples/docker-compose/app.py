"""The smallest Django application that can sign somebody in: one file, with SQLite in the temporary folder.

    python app.py            serves on 0.0.0.0:8000 with the user demo / demo-password-1
"""

import os
import secrets
import sys
import tempfile

import django
from django.conf import settings

settings.configure(
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY") or secrets.token_urlsafe(48),
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    LOGIN_REDIRECT_URL="/",
    LOGOUT_REDIRECT_URL="/accounts/login/",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("DB") or os.path.join(tempfile.gettempdir(), "app.sqlite3")}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [
                    (
                        "django.template.loaders.locmem.Loader",
                        {
                            "login.html": "<form method=post>{% csrf_token %}{{ form.as_p }}<button>Log in</button></form>",
                            "home.html": "Hello {{ user }}. <form method=post action=/accounts/logout/>{% csrf_token %}"
                            "<button>Log out</button></form> <a href=/accounts/login/>Log in</a>",
                        },
                    )
                ],
                "context_processors": ["django.contrib.auth.context_processors.auth"],
            },
        }
    ],
)
django.setup()

from django.contrib.auth import get_user_model, views  # noqa: E402  (needs the settings above)
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.shortcuts import render  # noqa: E402
from django.urls import path  # noqa: E402

urlpatterns = [
    path("", lambda request: render(request, "home.html")),
    path("accounts/login/", views.LoginView.as_view(template_name="login.html")),
    path("accounts/logout/", views.LogoutView.as_view()),
]
application = get_wsgi_application()

if __name__ == "__main__":
    from waitress import serve

    call_command("migrate", verbosity=0)
    if not get_user_model().objects.filter(username="demo").exists():
        get_user_model().objects.create_user("demo", "demo@example.test", "demo-password-1")
    serve(application, host=os.environ.get("HOST", "0.0.0.0"), port=int(sys.argv[1]) if sys.argv[1:] else 8000)
