"""The values of a process, at most `LIFETIME` seconds old."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from django.apps import apps
from django.conf import settings
from django.db import Error, connection

from chatsite.site_settings.fields import SiteSettings, declared
from chatsite.site_settings.values import combined, from_environment, from_stored

log = logging.getLogger(__name__)

LIFETIME: Final = 2.0


class Cache:
    """Holds the values of one process; ``lifetime`` is in seconds.

    A thread without an event loop reads expired values again itself. On the event loop, which must
    not wait for the database, expired values are returned once more while a thread reads them.
    """

    def __init__(self, lifetime: float = LIFETIME) -> None:
        self._lifetime = lifetime
        self._loading = threading.Lock()
        self._stored: dict[str, Any] = {}
        self._expires = 0.0
        self._environment: object = None
        self._locked: dict[str, Any] = {}
        self._values = SiteSettings()
        self._loaded = False

    def current(self) -> SiteSettings:
        if time.monotonic() >= self._expires:
            self._refresh()
        if settings.ENV is not self._environment:
            self._combine()
        return self._values

    def locked(self) -> dict[str, Any]:
        """Return the fields that the environment sets, with their values."""
        if settings.ENV is not self._environment:
            self._combine()
        return self._locked

    def put(self, stored: dict[str, Any]) -> None:
        """Use ``stored``, the valid values of the database, from now on."""
        self._stored = stored
        self._expires = time.monotonic() + self._lifetime
        self._loaded = True
        self._combine()

    def expire(self) -> None:
        """Read the values again when they are next used."""
        self._expires = 0.0

    def _combine(self) -> None:
        environment = settings.ENV
        self._locked, _problems = from_environment()
        self._values = combined(self._stored, self._locked)
        self._environment = environment

    def _refresh(self) -> None:
        if not self._loading.acquire(blocking=not self._loaded):
            return  # another thread reads them
        if time.monotonic() < self._expires:
            self._loading.release()
            return
        if not _on_event_loop():
            self._load()
            return
        thread = threading.Thread(target=self._load_apart, name="site-settings", daemon=True)
        thread.start()
        if not self._loaded:
            thread.join(1)  # once per process, before its first request

    def _load_apart(self) -> None:
        try:
            self._load()
        finally:
            connection.close()

    def _load(self) -> None:
        try:
            self.put(_valid(stored_rows()))
        except Error as error:
            log.warning("Settings can't be read, older ones are used", extra={"error": error})
            self._expires = time.monotonic() + self._lifetime
        finally:
            self._loading.release()


def stored_rows() -> Iterable[tuple[str, Any]]:
    """Return names and values of all stored settings."""
    # The model can't be imported with this module, which is imported before Django has its models.
    stored = apps.get_model("site_settings", "StoredSetting")
    return stored.objects.values_list("name", "value")


def _valid(rows: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return the values of the rows without unknown and invalid ones, which have their defaults."""
    found = {}
    for name, value in rows:
        if name in declared():
            try:
                found[name] = from_stored(name, value)
            except msgspec.ValidationError as error:
                log.warning("Invalid setting ignored", extra={"setting": name, "error": error})
    return found


def _on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


cache = Cache()


def current() -> SiteSettings:
    """Return the values of all settings, at most `LIFETIME` seconds old.

    Costs a comparison of clocks; callable from any thread and from the event loop.
    """
    return cache.current()


def locked() -> dict[str, Any]:
    """Return the fields that the environment sets, with their values."""
    return cache.locked()
