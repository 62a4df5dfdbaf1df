from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.signals import request_finished
from django.db import close_old_connections
from django.test import Client
from django.utils import translation

from chatsite.accounts.models import User
from chatsite.accounts.roles import Role
from chatsite.audit import drain, kinds, verification
from chatsite.audit.models import Event, Verification
from chatsite.audit.record import record
from chatsite.audit.spool import Spool
from tests.integration.audit.conftest import without_triggers

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(spool: Spool) -> Client:
    client = Client()
    client.force_login(User.objects.create_user("vera", password="x", role=Role.AUDITOR))
    drain.drain()
    return client


def shown(client: Client, query: str = "") -> list[Event]:
    response = client.get(f"/admin/audit/{query}")
    assert response.status_code == 200, response.content
    return [row["event"] for row in response.context["rows"]]


def fill() -> None:
    record("auth.login", user="ann", address="10.1.2.3")
    record("auth.login_failed", user="", address="10.9.9.9", outcome="failed", name="bob")
    record("model.deleted", user="ann", target=("model", "1", "smollm2:135m"))
    record("user.changed", user="root", target=("user", "5", "ann"), fields=["email"])
    record("share.opened", user="张伟", target=("conversation", "c1", ""), owner="李娜")
    drain.drain()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?q=smollm2", ["model.deleted"]),
        ("?q=smol", ["model.deleted"]),
        ("?q=10.9.9", ["auth.login_failed"]),
        ("?q=BOB", ["auth.login_failed"]),
        ("?q=张伟", ["share.opened"]),
        ("?q=李", ["share.opened"]),
        ("?q=nothing", []),
        ("?q=%22...%22", []),
        ("?kind=auth&outcome=failed", ["auth.login_failed"]),
        ("?kind=model.deleted", ["model.deleted"]),
        ("?user=ann&kind=user", ["user.changed"]),
        ("?user=root", ["user.changed"]),
        ("?user=ANN&q=model", ["model.deleted"]),
        ("?outcome=denied", []),
        ("?since=2100-01-01", []),
        ("?until=2020-01-01", []),
    ],
)
def test_filters(client: Client, query: str, found: list[str]) -> None:
    fill()
    assert [event.kind for event in shown(client, query)] == found


def test_days_begin_in_the_zone_of_the_reader(client: Client) -> None:
    fill()
    moment = Event.objects.get(kind="model.deleted").time.astimezone(UTC)
    day = moment.date().isoformat()
    assert len(shown(client, f"?since={day}&until={day}&zone=UTC")) >= 5
    # At UTC+14 it is the next day from 10:00 UTC on, at UTC-12 the day before until noon.
    ahead = (moment + timedelta(hours=14)).date().isoformat()
    behind = (moment - timedelta(hours=12)).date().isoformat()
    query = "?kind=model&since={0}&until={0}&zone={1}"
    assert len(shown(client, query.format(ahead, "Etc/GMT-14"))) == 1
    assert len(shown(client, query.format(behind, "Etc/GMT%2B12"))) == 1


@pytest.mark.parametrize(
    "query", ["?since=tomorrow", "?since=2026-13-40", "?since=2026-02-02&until=2026-02-01"]
)
def test_wrong_dates_are_explained(client: Client, query: str) -> None:
    response = client.get(f"/admin/audit/{query}")
    assert response.status_code == 200
    assert response.context["problems"]


@pytest.mark.parametrize(
    "query",
    [
        *("?before=x", "?before=99999999999999999999", "?kind=%00", "?outcome=maybe"),
        *("?zone=../../etc/passwd", "?zone=%00", "?since=9999-12-31", "?until=9999-12-31"),
        "?q=" + "%22" * 500,
    ],
)
def test_odd_parameters_do_no_harm(client: Client, query: str) -> None:
    assert client.get(f"/admin/audit/{query}").status_code == 200


def test_pages_are_complete_and_disjoint(client: Client) -> None:
    for number in range(120):
        record("share.opened", user="ann", number=number)
    drain.drain()
    seen: list[int] = []
    query = "?kind=share"
    while True:
        response = client.get(f"/admin/audit/{query}")
        seen += [row["event"].sequence for row in response.context["rows"]]
        before = response.context["before"]
        if before is None:
            break
        query = f"?kind=share&before={before}"
    assert len(seen) == len(set(seen)) == 120
    assert seen == sorted(seen, reverse=True)


def test_an_event_shows_its_place_in_the_chain(client: Client) -> None:
    fill()
    event = Event.objects.get(kind="user.changed")
    response = client.get(f"/admin/audit/{event.pk}/")
    page = response.content.decode()
    assert response.context["hash_matches"]
    assert response.context["follows"]
    for text in (event.hash, event.previous, "email", "ann"):
        assert text in page
    with without_triggers():
        Event.objects.filter(pk=event.pk).update(actor_name="eve")
    response = client.get(f"/admin/audit/{event.pk}/")
    assert not response.context["hash_matches"]
    assert "This event was changed" in response.content.decode()
    with without_triggers():
        Event.objects.filter(pk=event.pk).update(actor_name="root", previous="0" * 64)
    assert not client.get(f"/admin/audit/{event.pk}/").context["follows"]


def body(response: Any) -> str:
    async def read() -> bytes:
        return b"".join([part async for part in response.streaming_content])

    text = async_to_sync(read)().decode()
    # The signal of the end would close the connection of the test's transaction.
    request_finished.disconnect(close_old_connections)
    response.close()
    request_finished.connect(close_old_connections)
    return text


def test_the_filtered_events_are_exported_and_that_is_recorded(client: Client) -> None:
    fill()
    lines = body(client.get("/admin/audit/export/?format=jsonl&user=ann")).splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["kind"] for event in events] == ["auth.login", "model.deleted", "user.changed"]
    table = list(csv.DictReader(io.StringIO(body(client.get("/admin/audit/export/?format=csv")))))
    assert {row["kind"] for row in table} >= {"auth.login", "share.opened"}
    syslog = body(client.get("/admin/audit/export/?format=syslog&kind=share"))
    assert syslog.startswith("<110>1 ")
    drain.drain()
    recorded = shown(client, "?kind=audit.exported")
    assert [event.actor_name for event in recorded] == ["vera"] * 3
    assert "user=ann" in recorded[-1].details


def test_a_spreadsheet_does_not_compute_cells(client: Client) -> None:
    record("auth.login", user="=1+1", target=("user", "1", "@SUM(A1)"))
    drain.drain()
    text = body(client.get("/admin/audit/export/?format=csv&kind=auth.login"))
    row = list(csv.DictReader(io.StringIO(text)))[-1]
    assert (row["actor_name"], row["target_name"]) == ("'=1+1", "'@SUM(A1)")


def test_an_unknown_format_leads_back(client: Client) -> None:
    assert client.get("/admin/audit/export/?format=xml").status_code == 302


def test_verification_from_the_page(client: Client) -> None:
    fill()
    response = client.post("/admin/audit/verify/", follow=True)
    assert "The audit log is intact" in response.content.decode()
    assert Verification.objects.get().ok
    with without_triggers():
        Event.objects.filter(sequence=2).update(address="127.0.0.1")
    page = client.post("/admin/audit/verify/", follow=True).content.decode()
    assert "not intact" in page
    assert "Event 2 was changed." in page


def test_events_that_wait_are_reported(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "LATE_SECONDS", -1.0)
    monkeypatch.setattr(drain, "stored_at", lambda path: 1.0)
    record("auth.login", user="ann")
    page = client.get("/admin/audit/").content.decode()
    assert "can't be stored and wait on disk" in page


def test_the_first_event_of_an_empty_log(client: Client) -> None:
    with without_triggers():
        Event.objects.all().delete()
    page = client.get("/admin/audit/").content.decode()
    assert "No events yet" in page


def test_kinds_have_a_domain_and_a_label() -> None:
    for kind in kinds.KINDS:
        domain, dot, verb = kind.partition(".")
        assert domain in kinds.DOMAINS, kind
        assert dot, kind
        assert verb.replace("_", "").isalpha(), kind
        assert verb.islower(), kind
    listed = [kind for _domain, _label, found in kinds.by_domain() for kind, _text in found]
    assert sorted(listed) == sorted(kinds.KINDS)


def test_times_are_utc_until_the_page_knows_better(client: Client) -> None:
    fill()
    event = Event.objects.get(kind="model.deleted")
    page = client.get("/admin/audit/").content.decode()
    moment = event.time.astimezone(UTC)
    assert f'datetime="{moment:%Y-%m-%dT%H:%M:%S}' in page
    assert isinstance(moment, datetime)


def test_labels_are_translated() -> None:
    with translation.override("zh-hans"):
        assert kinds.label("auth.login") != ""
    assert kinds.label("an.unknown") == "an.unknown"
