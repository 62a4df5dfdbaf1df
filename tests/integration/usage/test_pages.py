"""The pages of usage: the administrators' and one's own."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from chatsite.accounts import keys
from chatsite.accounts.models import User
from chatsite.accounts.roles import Role
from chatsite.conversations.models import Via
from chatsite.site_settings import save
from chatsite.usage import rollup
from tests.integration.usage.conftest import Make
from tests.support.usage import busy, rated

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = "/admin/usage/"


@pytest.fixture
def auditor(alice: User) -> Client:
    auditor = User.objects.create_user("auditor", password="x", role=Role.AUDITOR)
    client = Client()
    client.force_login(auditor)
    return client


def text(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, address
    return answer.content.decode()


def table(client: Client, address: str) -> list[dict[str, str]]:
    answer = client.get(address)
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))


def test_a_busy_site(auditor: Client) -> None:
    # The page shows 90 calendar days with today, so the first begins less than 90 days ago.
    busy(requests=300, days=89)
    rated("user00")
    page = text(auditor, PAGE)
    for part in ("qwen3:8b", "Engineering", "user00", "Ollama API", "engine_failed", "Show all"):
        assert part in page, part
    for address in ("?period=today", "?period=7", "?period=90", "?sort=-ttft_p95", "?sort=name"):
        text(auditor, PAGE + address)
    group = Group.objects.get(name="Legal").pk
    narrowed = text(auditor, f"{PAGE}?period=90&group={group}&model=qwen3:8b")
    assert "Remove filter Group: Legal" in narrowed
    assert "Remove filter Model: qwen3:8b" in narrowed
    user = User.objects.get(username="user00").pk
    assert "By group" not in text(auditor, f"{PAGE}?user={user}")
    for by in ("model", "group", "user", "door"):
        text(auditor, f"{PAGE}{by}/?period=90&sort=-requests")
    assert "Page 1 of 1" not in text(auditor, f"{PAGE}user/")
    assert auditor.get(f"{PAGE}planet/").status_code == 404
    assert auditor.get(f"{PAGE}planet.csv").status_code == 404
    rows = table(auditor, f"{PAGE}user.csv?period=90&sort=-requests")
    assert sum(int(row["requests"]) for row in rows) == 312, "12 of them rated"
    assert [int(row["requests"]) for row in rows] == sorted(
        (int(row["requests"]) for row in rows), reverse=True
    )
    assert all(float(row["ttft_p50"]) > 0 for row in rows if int(row["done"]) > 3)
    assert "made up a paragraph" in text(auditor, f"{PAGE}feedback/")


def test_bad_dates_are_explained_and_the_default_is_shown(auditor: Client) -> None:
    for query, message in (
        ("from=2026-13-01&to=2026-11-30", "year-month-day"),
        ("from=2026-11-30&to=2026-11-01", "Swap the dates"),
        ("from=2000-01-01&to=2026-11-01", "at most 10 years"),
        ("", "year-month-day"),
    ):
        page = text(auditor, f"{PAGE}?period=custom&{query}")
        assert message in page
        assert 'role="alert"' in page
    assert "No usage in this period" in text(
        auditor, f"{PAGE}?period=custom&from=2001-01-01&to=2001-01-02"
    )


def test_a_file_has_no_formulas(auditor: Client, make: Make) -> None:
    make(at=timezone.now(), model='=HYPERLINK("http://example.org")')
    make(at=timezone.now(), model="@SUM(A1)")
    names = {row["model"] for row in table(auditor, f"{PAGE}model.csv?period=today")}
    assert names == {'\'=HYPERLINK("http://example.org")', "'@SUM(A1)"}


def test_names_are_escaped(auditor: Client, make: Make) -> None:
    make(at=timezone.now(), model="<script>alert(1)</script>")
    page = text(auditor, f"{PAGE}?model=<script>alert(1)</script>")
    assert "<script>alert" not in page


def test_small_groups_are_hidden_on_every_page(auditor: Client, alice: User, make: Make) -> None:
    team = [User.objects.create_user(f"member{n}") for n in range(6)]
    for user in team:
        for model in ("tiny:latest", "big:latest", "more:latest"):
            make(user, at=timezone.now(), model=model)
    make(team[0], at=timezone.now(), model="secret:latest")
    try:
        save.save({"usage_min_group": 5})
        page = text(auditor, PAGE)
        assert page.count("fewer than 5 users") >= 2
        assert "member0" not in page
        hidden = [row for row in table(auditor, f"{PAGE}model.csv") if row["note"]]
        assert len(hidden) == 2
        assert all(row["requests"] == row["users"] == "" for row in hidden)
        assert "not reported" in text(auditor, f"{PAGE}user/")
        assert table(auditor, f"{PAGE}user.csv") == []
        for query in (f"user={team[0].pk}", "model=secret:latest"):
            refused = text(auditor, f"{PAGE}?{query}")
            assert "Remove filter" not in refused
            assert 'class="callout warn"' in refused
        save.save({"usage_min_group": 50})
        assert "Fewer than 50 users" in text(auditor, PAGE)
    finally:
        save.save({"usage_min_group": 1})


def test_one_sees_only_ones_own_usage(alice: User, bob: User, make: Make) -> None:
    key, _text = keys.create(alice, name="nightly <b>script</b>")
    now = timezone.now()
    make(at=now - timedelta(days=2))
    make(at=now, via=Via.API, api_key=key, model="big:latest", prompt_tokens=1234)
    make(bob, at=now, model="private:latest")
    rollup.count_ended()
    make(at=now, model="fresh:latest")
    client = Client()
    client.force_login(alice)
    page = text(client, "/usage/")
    for part in ("big:latest", "fresh:latest", "1,234", "nightly &lt;b&gt;script", key.prefix):
        assert part in page, part
    assert "private:latest" not in page
    assert "have not used" in text(client, "/usage/?period=custom&from=2001-01-01&to=2001-01-02")
    assert Client().get("/usage/").status_code == 302
    assert client.get(PAGE).status_code in {302, 403}
