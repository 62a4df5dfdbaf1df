"""Django settings. What an operator may change comes from `env.py`; the rest is fixed here."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
from celery.schedules import crontab
from csp.constants import NONE, SELF
from django.utils.translation import gettext_lazy as _
from redis.backoff import NoBackoff
from redis.retry import Retry

from chatsite import broker, env, secrets

BASE_DIR = Path(__file__).resolve().parent.parent
ENV = env.load()

DATA_DIR = ENV.data_dir
SECRET_KEY = ENV.secret_key or secrets.stored_key(DATA_DIR / "secret_key")
DEBUG = ENV.debug
ALLOWED_HOSTS = sorted(
    {env.in_url(urlsplit(origin).hostname or "") for origin in ENV.effective_origins}
)
CSRF_TRUSTED_ORIGINS = list(ENV.effective_origins)

INSTALLED_APPS = [
    "chatsite.accounts",  # before Django's, whose createsuperuser it makes easier
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "django.forms",  # its templates, for the renderer below
    "servestatic.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.admin.apps.SimpleAdminConfig",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "channels",
    "csp",
    "chatsite.apps.ChatsiteConfig",
    "chatsite.policy",
    "chatsite.site_settings",
    "chatsite.audit",
    "chatsite.conversations",
    "chatsite.search",
    "chatsite.exchange",
    "chatsite.sharing",
    "chatsite.retention",
    "chatsite.usage",
    "chatsite.feedback",
    "chatsite.conversations.attachments",
    "chatsite.knowledge",
    "chatsite.conversations.assistants",
    "models_admin",
    "models_admin.engines",
    "models_admin.adminsite",
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
    "chatsite.accounts.middleware.SignInMiddleware",
    "chatsite.web.notices.TermsMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

FORCE_SCRIPT_NAME = ENV.path_prefix or None
ROOT_URLCONF = "chatsite.web.urls"
ASGI_APPLICATION = "chatsite.web.asgi.application"

# Templates of the project also replace those of form widgets.
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "builtins": ["chatsite.web.template_tags"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# Data.

_SQLITE: dict[str, Any] = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": DATA_DIR / "chatsite.sqlite3",
    # A transaction that reads and then writes must take the lock at its start: SQLite does not
    # wait for a lock on the upgrade, whatever the timeout.
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # Deleted text is overwritten: a deletion must not leave it in the file.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
        "PRAGMA secure_delete=ON;",
    },
}
if ENV.database_url:
    _database: dict[str, Any] = dict(dj_database_url.parse(ENV.database_url, conn_max_age=0))
    if _database["ENGINE"] == "django.db.backends.postgresql":
        _database.setdefault("OPTIONS", {})["pool"] = {
            "min_size": min(4, ENV.database_connections),
            "max_size": ENV.database_connections,
        }
        # A cursor on the server outlives its statement, which a transaction pooler can't provide.
        _database["DISABLE_SERVER_SIDE_CURSORS"] = ENV.database_pooler == "transaction"
    elif _database["ENGINE"] == "django.db.backends.sqlite3":
        _database["OPTIONS"] = _SQLITE["OPTIONS"]
    DATABASES = {"default": _database}
else:
    DATABASES = {"default": _SQLITE}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = ENV.effective_redis_url
CACHES: dict[str, Any] = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": f"{ENV.redis_prefix}cache",
        # A page must not wait for Redis, nor for the client's own retries.
        "OPTIONS": {
            "socket_timeout": 2,
            "socket_connect_timeout": 2,
            "retry": Retry(NoBackoff(), 0),
        },
    }
}
if ENV.redis_sentinels:
    CACHES["default"]["OPTIONS"]["pool_class"] = "chatsite.redis_sentinel.BlockingPool"
# Only hints that may be lost: tokens are sent through Redis Streams.
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "chatsite.web.channel_layer.ChannelLayer",
        "CONFIG": {
            "hosts": [{"address": REDIS_URL, "socket_timeout": None}],
            "prefix": f"{ENV.redis_prefix}asgi",
            "capacity": 2000,
        },
    }
}

# Users.

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "allauth.account.auth_backends.AuthenticationBackend",
    "chatsite.accounts.backends.RoleBackend",  # permissions only
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# Local sign-in: passwords, second factors, mail.

PASSWORD_HASHERS = [
    "chatsite.accounts.hashers.Argon2Hasher",
    "chatsite.accounts.hashers.BoundedPBKDF2Hasher",
]
ACCOUNT_ADAPTER = "chatsite.accounts.adapter.AccountAdapter"
ACCOUNT_FORMS = {
    "login": "chatsite.accounts.forms.LoginForm",
}
# An email address is resolved to a username before allauth sees it; see `accounts/adapter.py`.
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_LOGOUT_REDIRECT_URL = LOGIN_URL = f"{ENV.path_prefix}/accounts/login/"
LOGIN_REDIRECT_URL = f"{ENV.path_prefix}/"
# Failed sign-ins are counted in `accounts/throttle.py`, which replaces allauth's own keys: an
# attacker must not lock out the user whose name is tried.
ACCOUNT_RATE_LIMITS = {
    "login": None,
    "login_failed": None,
    "password_failed": "20/m/ip,5/300s/key",
    "password_failed_on_known_device": "10/300s/key",
    "code_failed": "5/300s/key",
    "code_failed_on_known_device": "10/300s/key",
    # Codes are short: wrong ones from all unknown devices together.
    "code_failed_anywhere": "50/h/key",
    "ask_for_link": "20/m/ip,3/600s/key",
    "use_link": "60/m/ip",
    "signup": "20/m/ip,200/d/ip",
}
ACCOUNT_REAUTHENTICATION_TIMEOUT = 600
MFA_ADAPTER = "chatsite.accounts.mfa_adapter.MfaAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_FORMS = {
    "authenticate": "chatsite.accounts.forms.CodeForm",
    "reauthenticate": "chatsite.accounts.forms.ReauthenticateByCodeForm",
}
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_TOLERANCE = 1
# Addresses are confirmed by our own links, or by nobody where there is no mail server.
MFA_ALLOW_UNVERIFIED_EMAIL = True
# A passkey can't be guessed, and all users of a proxy may share one address.
MFA_RATE_LIMITS = {"webauthn_login": "60/m/ip"}
EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
EMAIL_HOST = ENV.smtp_host
EMAIL_PORT = ENV.mail_port
EMAIL_HOST_USER = ENV.smtp_user
EMAIL_HOST_PASSWORD = ENV.smtp_password
EMAIL_USE_TLS = ENV.smtp_tls == "starttls"
EMAIL_USE_SSL = ENV.smtp_tls == "tls"
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = ENV.smtp_sender

# Sign-in from the directory of the organization.
SOCIALACCOUNT_ADAPTER = "chatsite.accounts.directory.oidc.SocialAdapter"
SOCIALACCOUNT_PROVIDERS = {
    "openid_connect": {"provider_class": "chatsite.accounts.directory.oidc.Provider"}
}
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
if ENV.ldap_url:
    env.require_ldap()
    # After local accounts, which so need no directory.
    AUTHENTICATION_BACKENDS.append("chatsite.accounts.directory.ldap.Backend")

if ENV.otel_endpoint:
    env.require_otel()

# Sessions.

SESSION_COOKIE_AGE = ENV.session_days * 24 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = LANGUAGE_COOKIE_SECURE = ENV.https_only
if ENV.https_only:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = ENV.hsts_seconds
# Browsers accept a `__Host-` cookie only from this very host, over https, for all of its paths.
_cookie_prefix = "__Host-" if ENV.https_only else ""
# Two products or two data folders on one host name must not sign each other out.
SESSION_COOKIE_NAME = f"{_cookie_prefix}chatsite_session_{ENV.cookie_port}"
CSRF_COOKIE_NAME = f"{_cookie_prefix}chatsite_csrf_{ENV.cookie_port}"
DEVICE_COOKIE_NAME = f"{_cookie_prefix}chatsite_device_{ENV.cookie_port}"
# Set by the page that changes the language, read by the server only.
LANGUAGE_COOKIE_SAMESITE = "Lax"

# What a page may do. No inline scripts.

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
SILENCED_SYSTEM_CHECKS = [
    # The address is a name in the organization's domain: whether its other names have TLS, and
    # whether browsers are shipped with it, is not for this site to declare.
    "security.W005",
    "security.W021",
    # The proxy redirects. Clients on this machine use plain HTTP; `chatsite.W003` reports others.
    "security.W008",
]
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"

# Text and files.

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = f"{ENV.path_prefix}/static/"
STATIC_ROOT = BASE_DIR / "build" / "static"
STATICFILES_DIRS = [BASE_DIR / "static" / "dist"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "servestatic.storage.CompressedManifestStaticFilesStorage"},
}

# Background jobs.

CELERY_BROKER_URL, CELERY_BROKER_USE_SSL, _broker_options = broker.options(ENV)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "global_keyprefix": f"{ENV.redis_prefix}celery:",
    "socket_timeout": 30,
    "socket_keepalive": True,
    **_broker_options,
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "run" / "celerybeat-schedule")
CELERY_BEAT_SCHEDULER = "chatsite.celery:Scheduler"
CELERY_BEAT_SCHEDULE = {
    "reap-generations": {"task": "chatsite.chat.reap_generations", "schedule": 30.0},
    "sweep-jobs": {"task": "models_admin.tasks.sweep_jobs", "schedule": 10.0},
    "clean-attachments": {
        "task": "chatsite.conversations.clean_attachments",
        "schedule": 3600.0,
    },
    "purge-conversations": {"task": "chatsite.retention.purge_deleted", "schedule": 600.0},
    "purge-expired": {"task": "chatsite.retention.purge_expired", "schedule": 3600.0},
    "sweep-privacy-work": {"task": "chatsite.retention.sweep", "schedule": 30.0},
    "erase-deleted-text": {"task": "chatsite.retention.erase", "schedule": 1800.0},
    "roll-up-usage": {"task": "chatsite.usage.roll_up", "schedule": 60.0},
    "clean-usage": {"task": "chatsite.usage.clean", "schedule": 3600.0},
    "drain-audit": {"task": "chatsite.audit.drain", "schedule": 60.0},
    "audit-nightly": {
        "task": "chatsite.audit.nightly",
        "schedule": crontab(hour=2, minute=30),
    },
    "sweep-knowledge": {"task": "chatsite.knowledge.sweep", "schedule": 30.0},
    "clean-partials": {"task": "models_admin.tasks.clean_partials", "schedule": 3600.0},
}
if ENV.backup_dir and ENV.backup_hours:
    CELERY_BEAT_SCHEDULE["create-backup"] = {
        "task": "chatsite.backup.create_regular",
        "schedule": ENV.backup_hours * 3600.0,
    }
if ENV.has_directory and ENV.directory_sync_at:
    _hour, _minute = ENV.directory_sync_at.split(":")
    CELERY_BEAT_SCHEDULE["sync-directory"] = {
        "task": "chatsite.sync_directory",
        "schedule": crontab(hour=_hour, minute=_minute),
    }

LOGGING_CONFIG = None  # `chatsite.logs.configure` is called by each process with its name.
