"""The policy section of the administration, and `manage.py policy`."""

from __future__ import annotations

import io
import json
from typing import Any
from unittest.mock import Mock

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.test import Client

from chatsite.accounts.models import User
from chatsite.accounts.roles import Role
from chatsite.policy import quotas, snapshot
from chatsite.policy.models import Default, Limit, Quota, Rule
from models_admin.adminsite.policy import views
from models_admin.models import ModelName, ModelVersion

pytestmark = pytest.mark.django_db


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(views, "record", lambda kind, **more: found.append({"kind": kind, **more}))
    return found


@pytest.fixture
def admin(events: list[dict[str, Any]]) -> Client:
    version = ModelVersion.objects.create(digest="a" * 64, size=1)
    for name in ("big:70b", "small:1b"):
        ModelName.objects.create(name=name, version=version)
    alice = User.objects.create_user("alice", password="x")
    alice.groups.add(Group.objects.create(name="staff"))
    client = Client(HTTP_HOST="127.0.0.1")
    client.force_login(User.objects.create_superuser("root", password="x"))
    return client


def _text(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200, path
    return " ".join(response.text.split())


RULE = {"effect": "deny", "kind": "model", "model": "big", "audience": "group", "note": "costly"}


def test_a_rule_is_added_changed_and_removed_with_a_record_of_each(
    admin: Client, events: list[dict[str, Any]]
) -> None:
    group = Group.objects.get()
    added = admin.post("/admin/policy/rules/add/", {**RULE, "group": group.pk})
    assert (added.status_code, added["Location"]) == (302, "/admin/policy/")
    rule = Rule.objects.get()
    assert (rule.effect, rule.kind, rule.target, rule.group) == ("deny", "model", "big", group)
    text = _text(admin, "/admin/policy/")
    for said in ("Deny", "big", "Group staff", "1 user", "costly"):
        assert said in text
    form = _text(admin, f"/admin/policy/rules/{rule.pk}/")
    assert 'value="big"' in form
    assert "alice" in form  # who is affected
    changed = {**RULE, "model": "small:*", "audience": "user", "username": "ALICE"}
    assert admin.post(f"/admin/policy/rules/{rule.pk}/", changed).status_code == 302
    rule.refresh_from_db()
    assert (rule.target, rule.group, rule.user) == (
        "small:*",
        None,
        User.objects.get(username="alice"),
    )
    assert admin.post(f"/admin/policy/rules/{rule.pk}/delete/").status_code == 302
    assert not Rule.objects.exists()
    told = [(event["action"], event["old"], event["new"]) for event in events]
    assert told == [
        ("added", "", "deny model big to group staff"),
        ("changed", "deny model big to group staff", "deny model small:* to user alice"),
        ("removed", "deny model small:* to user alice", ""),
    ]
    assert {event["kind"] for event in events} == {"policy.changed"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": ""}, "model"),
        ({"model": "no spaces please"}, "model"),
        ({"group": ""}, "group"),
        ({"group": "99999"}, "group"),
        ({"audience": "user"}, "username"),
        ({"audience": "user", "username": "nobody"}, "username"),
        ({"kind": "feature", "feature": "flying"}, "feature"),
        ({"effect": "maybe"}, "effect"),
    ],
)
def test_a_bad_rule_is_refused_at_its_field(
    admin: Client, changes: dict[str, str], field: str
) -> None:
    data = {**RULE, "group": str(Group.objects.get().pk), **changes}
    response = admin.post("/admin/policy/rules/add/", data)
    assert response.status_code == 200
    assert field in response.context["form"].errors
    assert not Rule.objects.exists()


def test_a_rule_that_exists_is_not_added_twice(admin: Client) -> None:
    data = {**RULE, "audience": "everyone"}
    admin.post("/admin/policy/rules/add/", data)
    again = admin.post("/admin/policy/rules/add/", {**data, "model": "BIG"})
    assert "This rule exists already." in again.text
    assert Rule.objects.count() == 1


def test_hints_tell_which_rules_have_no_effect(admin: Client) -> None:
    admin.post("/admin/policy/rules/add/", {**RULE, "audience": "everyone"})
    allow = {"effect": "allow", "kind": "model", "model": "big:70b", "audience": "everyone"}
    told = admin.post("/admin/policy/rules/add/", allow, follow=True).text
    deny = Rule.objects.get(effect="deny")
    assert f"No effect: rule {deny.pk} denies big to everyone, and a deny rule wins." in told
    told = admin.post("/admin/policy/rules/add/", {**allow, "model": "small"}, follow=True).text
    assert "No effect: the default allows this already." in told
    told = admin.post(
        "/admin/policy/rules/add/", {**RULE, "model": "absent", "audience": "everyone"}, follow=True
    ).text
    assert "No installed model matches “absent” at present." in told


def test_defaults_limits_and_quotas_are_set(admin: Client, events: list[dict[str, Any]]) -> None:
    admin.post("/admin/policy/defaults/", {"model": "deny", "feature": "allow"})
    assert dict(Default.objects.values_list("kind", "allowed")) == {"model": False}
    empty = admin.post("/admin/policy/limits/add/", {"audience": "everyone"})
    assert "Set at least one limit." in empty.text
    limits = {"audience": "everyone", "longest_answer": 500, "priority": 1, "share_weight": 2.5}
    assert admin.post("/admin/policy/limits/add/", limits).status_code == 302
    assert Limit.objects.get().share_weight == 2.5
    assert "There are limits" in admin.post("/admin/policy/limits/add/", limits).text
    assert (
        "share_weight"
        in admin.post(
            "/admin/policy/limits/add/",
            {**limits, "audience": "user", "username": "alice", "share_weight": 50},
        )
        .context["form"]
        .errors
    )
    quota = {
        "audience": "everyone",
        "amount": 10_000,
        "unit": "tokens",
        "period": "day",
        "shared": "on",
    }
    assert admin.post("/admin/policy/quotas/add/", quota).status_code == 302
    assert Quota.objects.get().shared
    assert "There is such a quota" in admin.post("/admin/policy/quotas/add/", quota).text
    assert (
        "amount"
        in admin.post("/admin/policy/quotas/add/", {**quota, "amount": 0}).context["form"].errors
    )
    text = _text(admin, "/admin/policy/quotas/")
    for said in ("10,000 tokens per day", "shared by all", "0 used, 10,000 left", "Renews:"):
        assert said in text
    assert "High" in _text(admin, "/admin/policy/limits/")
    assert [event["new"] for event in events] == [
        "deny",
        "longest_answer=500, share_weight=2.5, priority=1 for everyone",
        "10000 tokens per day for everyone, together",
    ]


def test_the_preview_explains_each_decision(admin: Client) -> None:
    alice, group = User.objects.get(username="alice"), Group.objects.get()
    rule = Rule.objects.create(effect="deny", kind="model", target="big", group=group)
    Limit.objects.create(longest_answer=700, group=group)
    Quota.objects.create(unit="tokens", period="day", amount=5_000)
    quotas.charge(alice.pk, 1234)
    text = _text(admin, "/admin/policy/preview/?user=alice")
    for said in (
        "As the user alice",
        f"Rule {rule.pk} denies big to group staff.",
        "No rule applies; the default allows it.",
        "Limit 1 for group staff." if Limit.objects.get().pk == 1 else "for group staff.",
        "5,000 tokens per day",
        "1,234 used, 3,766 left",
    ):
        assert said in text, said
    text = _text(admin, f"/admin/policy/preview/?group={group.pk}")
    assert "As a member of the group staff" in text
    assert f"Rule {rule.pk} denies big to group staff." in text
    assert "Each member has this amount." in text
    assert "There is no user" in _text(admin, "/admin/policy/preview/?user=nobody")
    assert "There is no such group" in _text(admin, "/admin/policy/preview/?group=x")


PAGES = ("", "limits/", "quotas/", "preview/", "preview/?user=alice")


def test_an_auditor_reads_and_changes_nothing(admin: Client) -> None:
    auditor = User.objects.create_user("ann", password="x", role=Role.AUDITOR)
    rule = Rule.objects.create(effect="deny", kind="model", target="big")
    client = Client(HTTP_HOST="127.0.0.1")
    client.force_login(User.objects.get(pk=auditor.pk))
    for page in PAGES:
        text = _text(client, f"/admin/policy/{page}")
        for control in ("Add rule", "Edit", "Save defaults", "Add quota"):
            assert f">{control}<" not in text, (page, control)
    for path in ("rules/add/", f"rules/{rule.pk}/", "limits/add/", "quotas/add/"):
        assert client.get(f"/admin/policy/{path}").status_code == 403, path
        assert client.post(f"/admin/policy/{path}", {}).status_code == 403, path
    assert client.post(f"/admin/policy/rules/{rule.pk}/delete/").status_code == 403
    assert client.post("/admin/policy/defaults/", {"model": "deny"}).status_code == 403
    assert Rule.objects.exists()
    assert not Default.objects.exists()


@pytest.mark.parametrize("role", [Role.USER, Role.MODEL_MANAGER])
def test_other_roles_see_nothing_of_it(admin: Client, role: Role) -> None:
    user = User.objects.create_user("ann", password="x", role=role)
    client = Client(HTTP_HOST="127.0.0.1")
    client.force_login(User.objects.get(pk=user.pk))
    for page in (*PAGES, "rules/add/"):
        assert client.get(f"/admin/policy/{page}").status_code in {302, 403}, page


def _printed(*arguments: str) -> str:
    out = io.StringIO()
    call_command("policy", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_lists_and_explains(admin: Client) -> None:
    group = Group.objects.get()
    rule = Rule.objects.create(effect="deny", kind="model", target="big", group=group)
    Limit.objects.create(open_requests=3)
    Quota.objects.create(unit="requests", period="hour", amount=7, group=group, shared=True)
    listed = _printed("list")
    for said in (
        "models without a matching rule are allowed",
        f"rule {rule.pk} denies big to group staff",
        "for everyone: open_requests=3",
        "for group staff: 7 requests per hour, together",
    ):
        assert said in listed, said
    assert json.loads(_printed("list", "--json"))["rules"][0]["target"] == "big"
    told = _printed("explain", "Alice")
    assert f"model big:70b: denied. Rule {rule.pk} denies big to group staff." in told
    assert "model small:1b: allowed. No rule applies; the default allows it." in told
    assert "7 left until" in told
    found = json.loads(_printed("explain", "alice", "--model", "BIG:70B", "--json"))
    assert found["decisions"] == [
        {
            "kind": "model",
            "name": "big:70b",
            "allowed": False,
            "rule": rule.pk,
            "reason": f"Rule {rule.pk} denies big to group staff.",
        }
    ]
    with pytest.raises(CommandError, match="There is no user nobody"):
        _printed("explain", "nobody")


def test_a_change_is_seen_by_other_processes(admin: Client, monkeypatch: Any) -> None:
    """The revision grows with each change, and the snapshot is read again only then."""
    now = [0.0]
    monkeypatch.setattr(snapshot, "clock", lambda: now[0])
    assert snapshot.current().decide(snapshot.subject(1), "model", "x:1").allowed
    reads = Mock(wraps=snapshot.load)
    monkeypatch.setattr(snapshot, "load", reads)
    rule = Rule(effect="deny", kind="model", target="x")
    Rule.objects.bulk_create([rule])  # as another process would: without this one's signals
    from chatsite.policy.models import Revision

    Revision.objects.update_or_create(pk=1, defaults={"number": 77})
    assert snapshot.current().decide(snapshot.subject(1), "model", "x:1").allowed
    assert reads.call_count == 0
    now[0] = 2.5
    assert not snapshot.current().decide(snapshot.subject(1), "model", "x:1").allowed
    assert reads.call_count == 1
