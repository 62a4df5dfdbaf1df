"""Fixtures of tests with a directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache

from chatsite.accounts.models import User
from tests.support.pages import unbuilt
from tests.support.slapd import Slapd, group_dn, user_dn

__all__ = ["unbuilt"]

USERS = {
    "alice": "alice secret",
    "bob": "bob secret",
    "carol": "carol secret",
    "dave": "dave secret",
    "erin": "erin secret",
}


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    """Yield a server: alice is in `ml`, which is in `chat`; bob in `chat`; carol in none."""
    server = Slapd(
        tmp_path_factory.mktemp("slapd"),
        USERS,
        {
            "ml": [user_dn("alice")],
            "chat": [group_dn("ml"), user_dn("bob")],
            "loop": [group_dn("loop"), user_dn("dave")],
        },
    )
    yield server
    server.stop()


@pytest.fixture
def configure(settings: Any) -> Callable[..., None]:
    """Return a function that changes the product's settings by their fields."""

    def change(**values: Any) -> None:
        settings.ENV = settings.ENV.model_copy(update=values)

    return change


@pytest.fixture
def ldap_settings(slapd: Slapd, settings: Any, configure: Callable[..., None]) -> None:
    configure(**slapd.settings, directory_timeout_seconds=1.0)
    settings.AUTHENTICATION_BACKENDS = [
        *settings.AUTHENTICATION_BACKENDS,
        "chatsite.accounts.directory.ldap.Backend",
    ]


@pytest.fixture
def redis(redis_url: str) -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()
    cache.close()


@pytest.fixture
def administrator(db: None) -> User:
    return User.objects.create_superuser("root", password="correct horse battery")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Return the audit events of the test: kind and arguments."""
    events: list[tuple[str, dict[str, Any]]] = []

    def record(kind: str, **values: Any) -> None:
        events.append((kind, values))

    for module in ("accounts", "groups", "leavers", "ldap", "oidc", "sync"):
        monkeypatch.setattr(f"chatsite.accounts.directory.{module}.record", record)
    return events
