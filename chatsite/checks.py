"""System checks: what would go wrong later is said at start, with what to do."""

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

_LEAST_FREE = 2 << 30
_LEAST_KEY = 32
# What copied examples use for a key.
_PLACEHOLDERS = ("django-insecure", "changeme", "change-me", "secret", "insecure")
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@checks.register
def data_folder(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[checks.CheckMessage]:
    folder = Path(settings.DATA_DIR)
    # The folder is made at the first start: what must be writable then is its nearest parent.
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return [
            checks.Error(
                f"The data folder {folder} can't be written.",
                hint="Give its owner the right to, or name another in CHATSITE_DATA_DIR.",
                id="chatsite.E001",
            )
        ]
    found: list[checks.CheckMessage] = []
    free = shutil.disk_usage(place).free
    if free < _LEAST_FREE:
        found.append(
            checks.Warning(
                f"Only {free >> 20} MB are free on the disk of the data folder {folder}.",
                hint="Redis and the database stop taking anything when the disk is full.",
                id="chatsite.W001",
            )
        )
    if folder.is_dir() and folder.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        found.append(
            checks.Warning(
                f"Other users of this machine can look into the data folder {folder}.",
                hint=f"chmod 700 {folder}",
                id="chatsite.W002",
            )
        )
    return found


@checks.register
def secret_key(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    key = settings.SECRET_KEY
    if len(key) < _LEAST_KEY or key.lower().startswith(_PLACEHOLDERS):
        return [
            checks.Error(
                "The secret key can be guessed: who knows it can sign in as anybody.",
                hint="Leave CHATSITE_SECRET_KEY empty and a good one is made in the data folder.",
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
                hint="Debug pages show settings and people's data. Unset CHATSITE_DEBUG.",
                id="chatsite.E003",
            )
        )
    plain = [origin for origin in public if origin.startswith("http://")]
    if plain:
        found.append(
            checks.Warning(
                f"Passwords and chats cross the network unencrypted at {', '.join(plain)}.",
                hint="Put a proxy with TLS in front and name its https:// address in "
                "CHATSITE_ORIGINS.",
                id="chatsite.W003",
            )
        )
    if not environment.origins and environment.host not in _LOOPBACK:
        found.append(
            checks.Warning(
                f"The server binds {environment.host}, but CHATSITE_ORIGINS is empty.",
                hint="Name the address that people type, such as http://chat.example.org:8000; "
                "others are refused.",
                id="chatsite.W004",
            )
        )
    return found
