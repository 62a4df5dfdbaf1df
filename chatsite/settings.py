"""Django settings. What an operator may change comes from `env.py`; the rest is fixed here."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from csp.constants import NONE, SELF
from django.utils.translation import gettext_lazy as _

from chatsite import env, secrets

BASE_DIR = Path(__file__).resolve().parent.parent
ENV = env.load()

DATA_DIR = ENV.data_dir
SECRET_KEY = ENV.secret_key or secrets.stored_key(DATA_DIR / "secret_key")
DEBUG = ENV.debug
ALLOWED_HOSTS = sorted({urlsplit(origin).hostname or "" for origin in ENV.effective_origins})
CSRF_TRUSTED_ORIGINS = list(ENV.effective_origins)

INSTALLED_APPS = [
    "chatsite.accounts",  # before Django's, whose createsuperuser it makes easier
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "servestatic.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.admin.apps.SimpleAdminConfig",
    "allauth",
    "allauth.account",
    "channels",
    "csp",
    "chatsite.apps.ChatsiteConfig",
    "chatsite.chat",
    "chatsite.search",
    "chatsite.exchange",
    "chatsite.sharing",
    "chatsite.chat.attachments",
    "chatsite.chat.assistants",
    "models_admin",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "chatsite.urls"
ASGI_APPLICATION = "chatsite.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Data.

_SQLITE: dict[str, Any] = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": DATA_DIR / "chatsite.sqlite3",
    # A transaction that reads and then writes must take the lock at its start: SQLite does not
    # wait for a lock on the upgrade, whatever the timeout says.
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    },
}
if ENV.database_url:
    _database: dict[str, Any] = dict(dj_database_url.parse(ENV.database_url, conn_max_age=0))
    if _database["ENGINE"] == "django.db.backends.postgresql":
        _database.setdefault("OPTIONS", {})["pool"] = True
    elif _database["ENGINE"] == "django.db.backends.sqlite3":
        _database["OPTIONS"] = _SQLITE["OPTIONS"]
    DATABASES = {"default": _database}
else:
    DATABASES = {"default": _SQLITE}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = ENV.effective_redis_url
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
}
# Hints only, which may be lost: tokens travel in Redis Streams.
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": None}], "capacity": 2000},
    }
}

# People.

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
ACCOUNT_ADAPTER = "chatsite.accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_LOGOUT_REDIRECT_URL = "/accounts/login/"
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/"
SESSION_COOKIE_AGE = ENV.session_days * 24 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
_https_only = bool(ENV.origins) and all(origin.startswith("https://") for origin in ENV.origins)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https_only
if _https_only:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# Two products or two data folders on one host name must not sign each other out.
SESSION_COOKIE_NAME = f"chatsite_session_{ENV.port}"
CSRF_COOKIE_NAME = f"chatsite_csrf_{ENV.port}"

# What a page may do. No inline script anywhere.

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "object-src": [NONE],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"

# Text and files.

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "build" / "static"
STATICFILES_DIRS = [BASE_DIR / "static" / "dist"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "servestatic.storage.CompressedManifestStaticFilesStorage"},
}

# Background jobs.

_celery_redis = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_BROKER_URL = _celery_redis
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 30, "socket_keepalive": True}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "run" / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    "reap-generations": {"task": "chatsite.dispatch.tasks.reap_generations", "schedule": 30.0},
    "sweep-jobs": {"task": "models_admin.tasks.sweep_jobs", "schedule": 10.0},
    "clean-attachments": {
        "task": "chatsite.chat.attachments.tasks.clean_attachments",
        "schedule": 3600.0,
    },
    "purge-conversations": {"task": "chatsite.chat.tasks.purge_deleted", "schedule": 600.0},
    "clean-partials": {"task": "models_admin.tasks.clean_partials", "schedule": 3600.0},
}

LOGGING_CONFIG = None  # `chatsite.logs.configure` is called by each process with its name.
