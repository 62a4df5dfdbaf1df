"""Storing settings, what the environment fixes, and the values of a process."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core import checks
from django.core.exceptions import ValidationError

from chatsite.site_settings import cache as cache_module
from chatsite.site_settings import current
from chatsite.site_settings.cache import Cache
from chatsite.site_settings.fields import SiteSettings, declared
from chatsite.site_settings.models import StoredSetting
from chatsite.site_settings.save import save

pytestmark = pytest.mark.django_db


def test_defaults_hold_until_something_is_saved() -> None:
    assert current() == SiteSettings()
    assert current().site_name == "Chatsite"


def test_saved_values_apply_at_once_and_are_read_by_another_process() -> None:
    moment = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)
    values = {
        "site_name": "  Acme  ",
        "titles": False,
        "retention_days": "30",
        "signup_domains": "Example.org\n\nexample.net\n",
        "banner_from": moment,
        "signup_mode": "domain",
    }
    changed = save(values, by="root")
    assert changed["site_name"] == ("Chatsite", "Acme")
    assert changed["retention_days"] == (0, 30)
    assert StoredSetting.objects.get(name="titles").changed_by == "root"
    other = Cache(lifetime=60)
    for found in (current(), other.current()):
        assert found.site_name == "Acme"
        assert found.titles is False
        assert found.retention_days == 30
        assert found.signup_domains == ("Example.org", "example.net")
        assert found.banner_from == moment
    assert save(values) == {}, "what has the value already is no change"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("site_name", "", "required"),
        ("site_name", "a" * 41, "at most 40"),
        ("site_name", "a\nb", "one line"),
        ("retention_days", "-1", "greater than or equal to 0"),
        ("retention_days", "soon", "whole number"),
        ("admin_reads", "always", "forbidden, with_reason"),
        ("signup_domains", "not a domain", "not a domain"),
        ("banner_from", "yesterday", "valid date"),
        ("banner_text", "a" * 501, "at most 500"),
    ],
)
def test_invalid_values_are_refused_and_nothing_is_stored(
    name: str, value: str, message: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        save({name: value, "titles": False})
    assert message in " ".join(refused.value.message_dict[name])
    assert not StoredSetting.objects.exists()
    assert current() == SiteSettings()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"terms_text": "Be kind."}, "terms_version"),
        ({"signup_mode": "domain"}, "signup_domains"),
        (
            {"banner_from": "2030-01-02 00:00", "banner_until": "2030-01-01 00:00"},
            "banner_until",
        ),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        save(values)
    assert field in refused.value.message_dict
    assert not StoredSetting.objects.exists()


def test_the_environment_wins_and_locks(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    save({"site_name": "Stored", "retention_days": 3})
    monkeypatch.setenv("CHATSITE_RETENTION_DAYS", "7")
    settings.ENV = settings.ENV.model_copy(update={"name": "Fixed"})
    assert current().site_name == "Fixed"
    assert current().retention_days == 7
    assert set(cache_module.locked()) == {"site_name", "retention_days"}
    with pytest.raises(ValidationError, match="CHATSITE_NAME"):
        save({"site_name": "Other"})


def test_an_invalid_variable_fails_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATSITE_ADMIN_READS", "sometimes")
    found = [one for one in checks.run_checks() if one.id == "site_settings.E001"]
    assert len(found) == 1
    assert "CHATSITE_ADMIN_READS" in found[0].msg
    assert "with_reason" in found[0].msg


def test_rows_of_an_earlier_or_later_release_are_ignored() -> None:
    StoredSetting.objects.create(name="gone", value=1)
    StoredSetting.objects.create(name="admin_reads", value="sometimes")
    StoredSetting.objects.create(name="greeting", value="Hello")
    found = Cache(lifetime=60).current()
    assert found.admin_reads == "forbidden"
    assert found.greeting == "Hello"


def test_values_are_read_once_per_lifetime(django_assert_num_queries: Any) -> None:
    lasting, expired = Cache(lifetime=60), Cache(lifetime=0)
    with django_assert_num_queries(3):
        for _time in range(3):
            lasting.current()
        for _time in range(2):
            expired.current()
    assert lasting.current() == expired.current()


def test_the_event_loop_gets_the_former_values_while_a_thread_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread can't see this test's transaction, so what it reads is fixed here."""
    values = Cache(lifetime=60)
    values.put({"greeting": "old"})
    values.expire()
    may_read = threading.Event()

    def rows() -> list[tuple[str, Any]]:
        may_read.wait(10)
        return [("greeting", "new")]

    monkeypatch.setattr(cache_module, "stored_rows", rows)

    async def on_loop() -> str:
        found = values.current().greeting
        may_read.set()
        while values.current().greeting == found:
            await asyncio.sleep(0.01)
        return found

    assert asyncio.run(asyncio.wait_for(on_loop(), 10)) == "old"
    assert values.current().greeting == "new"


def test_every_field_has_a_label_and_a_kind() -> None:
    assert list(declared()) == list(SiteSettings.__struct_fields__)
    assert all(str(field.setting.label) for field in declared().values())
