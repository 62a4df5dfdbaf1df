"""The overview: health, figures and links, and that it stays cheap."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.backup import create
from chatsite.conversations.models import Generation
from chatsite.hosts import status
from chatsite.site_settings.save import save
from models_admin import catalogue
from models_admin.adminsite.overview import activity
from models_admin.models import Job, JobKind, JobState
from models_admin.store import files
from tests.support.gguf import VOCABULARY, write

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

NOW = "/admin/overview/now/"


@pytest.fixture(autouse=True)
def uncached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "LIFETIME", 0.0)
    activity.shared.forget()


@pytest.fixture(autouse=True)
def hosts(monkeypatch: pytest.MonkeyPatch) -> list[status.HostStatus]:
    model = status.ModelStatus("tiny:latest", "a", "ready", slots=8, busy=3, rss_bytes=1 << 20)
    found = [
        status.HostStatus(
            "h",
            "box-1",
            1,
            (model,),
            memory=status.HostMemory(64 << 30, 32 << 30, 48 << 30, 1 << 30),
            devices=(status.HostDevice("CUDA0", "A GPU", 10 << 30, 24 << 30, 8 << 30),),
            cpu=status.HostCpu(16, 0.42),
            disk=status.HostDisk(500 << 30, 250 << 30),
        ),
    ]
    monkeypatch.setattr(status, "ask_from_thread", lambda: found)
    return found


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("chatsite-backup-20260101T000000Z.zip", "Last backup: "),
        ("other.zip", "There is no backup in "),
    ],
)
def test_an_old_or_missing_backup_is_a_problem(
    client: Client, root: User, tmp_path: Any, settings: Any, name: str, shown: str
) -> None:
    assert shown not in client.get(NOW).json()["regions"]["health"]
    (tmp_path / name).touch()
    settings.ENV = settings.ENV.model_copy(update={"backup_dir": tmp_path})
    assert shown in client.get(NOW).json()["regions"]["health"]
    (tmp_path / create.name_now()).touch()
    assert shown not in client.get(NOW).json()["regions"]["health"]


@pytest.fixture
def root(client: Client) -> User:
    user = User.objects.create_superuser("root")
    client.force_login(user)
    return user


@pytest.fixture
def chat_model(tmp_path: Any) -> Any:
    values = {"tokenizer.chat_template": "{{ messages }}"}
    return files.import_file(write(tmp_path / "t", values=values, extra=(VOCABULARY,)), "tiny")


def generation(owner: User, ago: float = 60, **values: Any) -> Generation:
    queued = timezone.now() - timedelta(seconds=ago)
    ended = {
        "state": "done",
        "started_at": queued + timedelta(seconds=1),
        "finished_at": queued + timedelta(seconds=11),
        "completion_tokens": 200,
        "timings": {"ttft": 1500.0},
    }
    return Generation.objects.create(
        owner=owner, model="tiny:latest", queued_at=queued, **(ended | values)
    )


@pytest.mark.usefixtures("chat_model")
def test_a_site_without_problems_says_so(client: Client, root: User) -> None:
    generation(root)
    page = client.get("/admin/").text
    assert "Everything is well." in page
    for part in ("box-1", "3 of 8 slots busy", "42 % of 16 cores", "CUDA0", "1.5 s", "250.0"):
        assert part in page
    assert 'href="/admin/chat/generation/?state__exact=running"' in page


def test_what_is_wrong_is_listed_worst_first(
    client: Client, root: User, chat_model: Any, hosts: list[status.HostStatus]
) -> None:
    catalogue.quarantine(chat_model.version.digest, "signal 11")
    hosts[0] = status.HostStatus("h", "box-1", 1, disk=status.HostDisk(500 << 30, 1 << 20))
    save({"maintenance": True})
    Job.objects.create(
        kind=JobKind.DOWNLOAD, target="x", state=JobState.FAILED, finished_at=timezone.now()
    )
    for _time in range(4):
        generation(root, state="failed", error={"code": "model_unavailable"})
    generation(root, ago=90, state="queued", started_at=None, finished_at=None)
    text = client.get(NOW).json()["regions"]["health"]
    problems = [line for line in text.splitlines() if "<li" in line]
    assert 'class="bad"' in problems[0]
    assert 'class="warn"' in problems[-1]
    for part in (
        *("Maintenance mode is on", "signal 11", "No model is available to users"),
        *("The disk of box-1 is almost full", "1 job failed", "of 5 requests failed"),
        "has been waiting for 9",
    ):
        assert part in text
    assert "4 × model_unavailable" in client.get(NOW).json()["regions"]["tiles"]


@pytest.mark.usefixtures("root")
def test_missing_parts_are_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "ask_from_thread", lambda: None)
    assert "Redis is not responding" in client.get("/admin/").text
    monkeypatch.setattr(status, "ask_from_thread", list)
    page = client.get("/admin/").text
    assert "No inference host is running" in page
    assert "No model is installed" in page


@pytest.mark.usefixtures("root")
def test_without_the_database_of_requests_the_page_still_shows_hosts(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import DatabaseError

    def fail() -> Any:
        raise DatabaseError

    monkeypatch.setattr(activity.shared, "compute", fail)
    now = client.get(NOW).json()
    assert now["charts"] is None
    assert "Figures are not available" in now["regions"]["tiles"]
    assert "box-1" in now["regions"]["hosts"]


def test_links_follow_permissions(client: Client, chat_model: Any) -> None:
    staff = User.objects.create_user("manager", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="view_job"))
    client.force_login(staff)
    page = client.get("/admin/")
    assert page.status_code == 200
    assert "/admin/chat/generation/" not in page.text
    assert "/admin/accounts/" not in page.text


def test_staff_without_the_overview_get_to_their_first_page(client: Client) -> None:
    staff = User.objects.create_user("staff", is_staff=True)
    client.force_login(staff)
    assert client.get("/admin/").status_code == 403
    assert client.get(NOW).status_code == 403
    staff.user_permissions.add(Permission.objects.get(codename="view_modelname"))
    assert client.get("/admin/").url == "/admin/models_admin/modelname/"  # type: ignore[attr-defined]
    denied = client.get("/admin/jobs/")
    assert denied.status_code == 403
    assert "You don't have access to this page" in denied.text
    assert "Models" in denied.text


def test_titles_are_no_requests(root: User) -> None:
    generation(root, via="title")
    assert activity.measure().requests == 0


def test_many_requests_are_bounded_and_read_by_the_index(
    root: User, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    now = timezone.now()
    rows = [
        Generation(
            owner=root,
            model="m",
            state="done",
            counted=True,
            queued_at=now - timedelta(seconds=number * 20),
            timings={"ttft": 100.0},
        )
        for number in range(3000)
    ]
    Generation.objects.bulk_create(rows)
    monkeypatch.setattr(activity, "LIMIT", 100)
    with django_assert_max_num_queries(3):
        found = activity.measure(now)
    assert (found.requests, found.cut) == (100, True)
    if connection.vendor == "sqlite":
        recent = Generation.objects.exclude(via="title").filter(queued_at__gte=now)
        assert "generation_queued" in recent.order_by("-queued_at").explain()
