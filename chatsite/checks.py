"""System checks: report at start what would fail later, with what to do."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.db import connection

from chatsite import supported

_LEAST_FREE = 2 << 30
_LEAST_KEY = 32
# Keys in copied examples.
_PLACEHOLDERS = ("django-insecure", "changeme", "change-me", "secret", "insecure")
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@checks.register
def data_folder(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[checks.CheckMessage]:
    folder = Path(settings.DATA_DIR)
    # The folder is created at the first start: until then its nearest parent must be writable.
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return [
            checks.Error(
                f"The data folder {folder} can't be written.",
                hint="Make it writable, or set CHATSITE_DATA_DIR to another folder.",
                id="chatsite.E001",
            )
        ]
    found: list[checks.CheckMessage] = []
    free = shutil.disk_usage(place).free
    if free < _LEAST_FREE:
        found.append(
            checks.Warning(
                f"Only {free >> 20} MB are free on the disk of the data folder {folder}.",
                hint="Redis and the database reject writes when the disk is full.",
                id="chatsite.W001",
            )
        )
    if folder.is_dir() and folder.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        found.append(
            checks.Warning(
                f"Other users of this machine can read the data folder {folder}.",
                hint=f"chmod 700 {folder}",
                id="chatsite.W002",
            )
        )
    return found


@checks.register
def libraries(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Refuse versions of libraries whose private names that we use may have changed."""
    return [
        checks.Error(
            problem,
            hint="Other versions may lack internals that the site uses; see chatsite/supported.py.",
            id="chatsite.E005",
        )
        for problem in supported.problems()
    ]


@checks.register
def secret_key(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    key = settings.SECRET_KEY
    if len(key) < _LEAST_KEY or key.lower().startswith(_PLACEHOLDERS):
        return [
            checks.Error(
                "The secret key is guessable: anyone who knows it can sign in as any user.",
                hint="Leave CHATSITE_SECRET_KEY empty: a random key is created in the data folder.",
                id="chatsite.E002",
            )
        ]
    return []


@checks.register
def public_addresses(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[checks.CheckMessage]:
    environment = settings.ENV
    public = [o for o in environment.origins if urlsplit(o).hostname not in _LOOPBACK]
    if environment.host not in _LOOPBACK:
        public.append(environment.host)
    found: list[checks.CheckMessage] = []
    if settings.DEBUG and public:
        found.append(
            checks.Error(
                f"CHATSITE_DEBUG is on while others can reach the server ({', '.join(public)}).",
                hint="Debug pages show settings and the data of users. Unset CHATSITE_DEBUG.",
                id="chatsite.E003",
            )
        )
    plain = [origin for origin in public if origin.startswith("http://")]
    if plain:
        found.append(
            checks.Warning(
                f"Passwords and chats are sent unencrypted at {', '.join(plain)}.",
                hint="Use a proxy with TLS and set its https:// address in CHATSITE_ORIGINS.",
                id="chatsite.W003",
            )
        )
    if environment.https_only and not environment.trusted_proxies:
        found.append(
            checks.Warning(
                "All users are behind a TLS proxy, but CHATSITE_TRUSTED_PROXIES is empty.",
                hint="Sign-in limits then count all users as one client. Set it to the proxy's "
                "address, such as 127.0.0.1.",
                id="chatsite.W005",
            )
        )
    if not environment.origins and environment.host not in _LOOPBACK:
        found.append(
            checks.Warning(
                f"The server binds {environment.host}, but CHATSITE_ORIGINS is empty.",
                hint="Set it to the address that users open, such as http://chat.example.org:8000; "
                "other addresses are refused.",
                id="chatsite.W004",
            )
        )
    return found


def undeclared_pooler() -> checks.Error | None:
    """Return the problem if `DATABASE_URL` leads to a pooler that the settings don't declare.

    A pooler such as PgBouncer gives its clients process IDs of its own, the server its real one.
    """
    if connection.vendor != "postgresql" or settings.ENV.database_pooler != "none":
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [pid] = cursor.fetchone()
    if connection.connection.info.backend_pid == pid:
        return None
    return checks.Error(
        "DATABASE_URL leads to a connection pooler, but CHATSITE_DATABASE_POOLER is not set.",
        hint="Set it to the pool_mode of the pooler (session or transaction), or the site fails "
        "when it reads large results.",
        id="chatsite.E006",
    )


@checks.register(checks.Tags.database)
def database_pooler(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    problem = undeclared_pooler() if databases else None
    return [problem] if problem else []


@checks.register(checks.Tags.security, deploy=True)
def redis_transport(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Report prompts and answers that cross a network unencrypted or to any server."""
    parts = urlsplit(settings.ENV.redis_url)
    if parts.scheme == "redis" and parts.hostname not in _LOOPBACK:
        return [
            checks.Warning(
                "Prompts, answers and the password of Redis are sent to it unencrypted.",
                hint="Use rediss:// in CHATSITE_REDIS_URL, or a network that nobody else reads.",
                id="chatsite.W007",
            )
        ]
    unchecked = ("ssl_cert_reqs=none", "ssl_cert_reqs=optional", "ssl_check_hostname=false")
    if parts.scheme == "rediss" and any(one in parts.query.lower() for one in unchecked):
        return [
            checks.Warning(
                "The certificate of Redis is not verified.",
                hint="Name its authority in CHATSITE_REDIS_URL: rediss://…?ssl_ca_certs=/path.pem.",
                id="chatsite.W008",
            )
        ]
    return []


@checks.register(checks.Tags.database)
def anonymous_api(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Report an anonymous user who is missing, inactive or an administrator."""
    from chatsite.accounts.models import User

    name = settings.ENV.api_anonymous
    if not name or not databases:
        return []
    user = User.objects.filter(username=name).first()
    if user is None or not user.is_active:
        return [
            checks.Warning(
                f"CHATSITE_API_ANONYMOUS names {name}, who is not an active user.",
                hint="API requests without a key are refused. Create the user or unset it.",
                id="chatsite.W006",
            )
        ]
    if user.is_staff or user.is_superuser:
        return [
            checks.Error(
                f"CHATSITE_API_ANONYMOUS gives everyone the rights of {name}, an administrator.",
                hint="Name a user without administrative rights.",
                id="chatsite.E004",
            )
        ]
    return []
