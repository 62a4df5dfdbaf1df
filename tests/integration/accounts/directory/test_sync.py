"""`manage.py people sync` with a real OpenLDAP server."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from chatsite.accounts import keys
from chatsite.accounts.directory import leavers, sync
from chatsite.accounts.directory.person import DirectoryUnavailable
from chatsite.accounts.models import ApiKey, DirectoryIdentity, User
from tests.integration.accounts.directory.conftest import USERS
from tests.support.slapd import user_dn

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("ldap_settings", "redis", "administrator"),
]


def sign_in(name: str) -> Client:
    client = Client()
    response = client.post("/accounts/login/", {"login": name, "password": USERS[name]})
    assert response.status_code == 302, name
    return client


def people_sync(*arguments: str) -> str:
    out = StringIO()
    call_command("people", "sync", *arguments, stdout=out)
    return out.getvalue()


def is_active(name: str) -> bool:
    return bool(User.objects.get(username=name).is_active)


@pytest.fixture
def everyone() -> dict[str, Client]:
    return {name: sign_in(name) for name in USERS}


@pytest.fixture
def left(slapd: Any, request: pytest.FixtureRequest) -> Any:
    """Let erin leave the directory for the test."""
    slapd.delete_user("erin")
    yield
    slapd.add_user("erin", USERS["erin"])


def test_a_leaver_loses_everything_and_a_returner_gets_the_account_back(
    everyone: dict[str, Client],
    slapd: Any,
    recorded: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    erin = User.objects.get(username="erin")
    key, _text = keys.create(erin)
    ended: list[Any] = []
    announced: list[Any] = []

    def note(user_ids: list[Any], **_: Any) -> None:
        ended.append(user_ids)

    leavers.access_ended.connect(note)
    monkeypatch.setattr(
        "chatsite.accounts.sessions.end", lambda user_id, *_: announced.append(user_id)
    )
    with slapd.admin() as link:
        # The same entry returns, with the same entryUUID.
        link.rename_s(user_dn("erin"), "uid=erin", "ou=groups,dc=example,dc=org")
        try:
            assert "erin: would be disabled" in people_sync("--dry-run")
            assert is_active("erin")
            assert "erin: disabled" in people_sync()
        finally:
            link.rename_s(
                "uid=erin,ou=groups,dc=example,dc=org", "uid=erin", "ou=people,dc=example,dc=org"
            )
    assert not is_active("erin")
    assert ApiKey.objects.get(pk=key.pk).revoked_at
    assert ended == [[erin.pk]]
    assert erin.pk in announced
    assert everyone["erin"].get("/accounts/keys/").status_code == 302
    assert everyone["bob"].get("/accounts/keys/").status_code == 200
    disabled = next(values for kind, values in recorded if kind == "user.disabled")
    assert disabled["target"][2] == "erin"

    assert "erin: enabled again" in people_sync()
    assert is_active("erin")
    assert DirectoryIdentity.objects.get(user=erin).disabled_at is None
    # The old session stays ended, and the key revoked.
    assert everyone["erin"].get("/accounts/keys/").status_code == 302
    assert ApiKey.objects.get(pk=key.pk).revoked_at
    assert [kind for kind, _ in recorded].count("directory.synced") == 2


def test_an_account_that_an_administrator_disabled_stays_disabled(
    everyone: dict[str, Client],
) -> None:
    bob = User.objects.get(username="bob")
    bob.is_active = False
    bob.save()
    assert "0 enabled" in people_sync()
    assert not is_active("bob")
    # Enabled by hand after the directory disabled it, then disabled by hand.
    DirectoryIdentity.objects.filter(user=bob).update(disabled_at=timezone.now())
    for active in (True, False):
        bob.is_active = active
        bob.save()
    assert "0 enabled" in people_sync()


def test_a_broken_filter_disables_nobody_unless_forced(
    everyone: dict[str, Client], configure: Any
) -> None:
    configure(ldap_user_filter="(objectClass=device)")
    with pytest.raises(CommandError, match=r"5 of 5 users would be disabled.*--force"):
        people_sync()
    assert User.objects.filter(is_active=True).count() == 6
    assert "5 disabled" in people_sync("--force")
    assert User.objects.filter(is_active=True).get().username == "root"


def test_the_last_administrator_is_kept(
    everyone: dict[str, Client], administrator: User, left: None
) -> None:
    erin = User.objects.get(username="erin")
    erin.role = "administrator"
    erin.save()
    administrator.delete()
    assert "erin: left the directory, but is the last administrator" in people_sync()
    assert is_active("erin")


def test_users_outside_the_allowed_groups_are_leavers_and_groups_follow(
    everyone: dict[str, Client], configure: Any
) -> None:
    alice = User.objects.get(username="alice")
    alice.groups.clear()
    configure(ldap_roles=(("chat", "auditor"),))
    people_sync()
    alice.refresh_from_db()
    assert alice.effective_role == "auditor"
    configure(ldap_allowed_groups=("chat", "loop"), directory_sync_max_percent=60)
    report = json.loads(people_sync("--json"))
    assert report["disabled"] == ["carol", "erin"]
    assert report["checked"] == 5


def test_a_server_that_does_not_answer_changes_nothing(
    everyone: dict[str, Client], slapd: Any
) -> None:
    with slapd.silent(), pytest.raises(DirectoryUnavailable):
        sync.run(force=True)
    with slapd.silent(), pytest.raises(CommandError, match="not responding"):
        people_sync("--force")
    assert User.objects.filter(is_active=True).count() == 6


def test_users_are_listed_beyond_the_servers_limit_of_one_result(
    slapd: Any, everyone: dict[str, Client]
) -> None:
    """The server allows 10 entries per search without paging."""
    for number in range(12):
        slapd.add_user(f"user{number}", "secret")
    try:
        assert json.loads(people_sync("--json"))["disabled"] == []
    finally:
        for number in range(12):
            slapd.delete_user(f"user{number}")


def test_users_of_openid_connect_are_disabled_when_unseen(
    configure: Any, administrator: User
) -> None:
    configure(ldap_url=(), oidc_issuer="https://login.example.org")
    old = User.objects.create_user("old")
    new = User.objects.create_user("new")
    for user, days in ((old, 100), (new, 1)):
        DirectoryIdentity.objects.create(
            user=user,
            source="oidc",
            external_id=user.username,
            seen_at=timezone.now() - timedelta(days=days),
        )
    assert "can't be asked" in people_sync()
    configure(directory_unseen_days=90)
    assert "old: disabled" in people_sync()
    assert (is_active("old"), is_active("new")) == (False, True)


def test_without_a_directory_it_says_so(configure: Any) -> None:
    configure(ldap_url=())
    assert "No directory is configured" in people_sync()


def test_beat_runs_it_at_the_configured_time(everyone: dict[str, Client], left: None) -> None:
    from chatsite.celery import app
    from chatsite.tasks import sync_directory

    assert app.tasks["chatsite.sync_directory"].name == sync_directory.name
    sync_directory()
    assert not is_active("erin")
    # No directory is configured in the environment of the test run.
    assert "sync-directory" not in django_settings.CELERY_BEAT_SCHEDULE
