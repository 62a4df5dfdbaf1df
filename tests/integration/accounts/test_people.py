"""Changes of users and groups: what they do, what they refuse, and what the audit log gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.management.base import CommandError

from chatsite.accounts import keys, people, roles
from chatsite.accounts.models import ApiKey, GroupProfile, User
from chatsite.accounts.people import Actor
from chatsite.accounts.roles import Role
from chatsite.conversations.models import Conversation
from chatsite.errors import ChatsiteError

pytestmark = pytest.mark.django_db

Recorded = list[tuple[str, str, dict[str, Any]]]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Return the events: (kind, name of the target, details)."""
    found: Recorded = []

    def record(kind: str, *, target: Any = None, **details: Any) -> None:
        for name in ("request", "user", "via"):
            details.pop(name, None)
        found.append((kind, target[2], details))

    monkeypatch.setattr(people, "record", record)
    return found


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root", password="x")


@pytest.fixture
def actor(root: User) -> Actor:
    return Actor(root)


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", "alice@example.org")


def directory_group(name: str) -> Group:
    group = Group.objects.create(name=name)
    GroupProfile.objects.filter(group=group).update(source="directory", external_id="x")
    return group


def test_a_created_user_has_role_and_groups(actor: Actor, recorded: Recorded) -> None:
    group = people.create_group(actor, "  Legal   team ", role=Role.AUDITOR)
    assert group.name == "Legal team"
    user = people.create(actor, username="bob", email="bob@example.org", groups=[group])
    assert (user.effective_role, user.has_usable_password()) == (Role.AUDITOR, False)
    assert [kind for kind, _name, _details in recorded] == ["group.created", "user.created"]
    rejected: tuple[tuple[dict[str, Any], str], ...] = (
        ({"username": "BOB"}, "username"),
        ({"username": "carol", "email": "BOB@example.org"}, "email"),
        ({"username": "", "email": ""}, "username"),
        ({"username": "carol", "email": "nonsense"}, "email"),
    )
    for wrong, field in rejected:
        with pytest.raises(ValidationError) as caught:
            people.create(actor, **wrong)
        assert field in caught.value.message_dict
    assert not User.objects.filter(username="carol").exists()


def test_changes_of_a_user_are_recorded_once(actor: Actor, alice: User, recorded: Recorded) -> None:
    assert people.rename(actor, alice, first_name=" Alice ", username="alice")
    assert not people.rename(actor, alice, first_name="Alice")
    assert people.set_role(actor, [alice], Role.AUDITOR) == 1
    assert people.set_role(actor, [alice], Role.AUDITOR) == 0
    assert people.deactivate(actor, [alice], "left the company") == 1
    assert people.deactivate(actor, [alice]) == 0
    assert people.activate(actor, [alice]) == 1
    assert people.activate(actor, [alice]) == 0
    assert recorded == [
        ("user.changed", "alice", {"fields": ["first_name"]}),
        (
            "user.role_changed",
            "alice",
            {"before": "user", "after": "auditor", "effective": "auditor"},
        ),
        ("user.deactivated", "alice", {"reason": "left the company"}),
        ("user.activated", "alice", {}),
    ]


def test_keys_are_revoked_with_a_record_each(actor: Actor, alice: User, recorded: Recorded) -> None:
    for name in ("one", "two"):
        keys.create(alice, name=name)
    assert people.revoke_keys(actor, [alice]) == 2
    assert people.revoke_keys(actor, [alice]) == 0
    assert not ApiKey.objects.usable().exists()
    assert [details["name"] for _kind, _name, details in recorded] == ["two", "one"]


def test_a_deletion_is_counted_before(alice: User) -> None:
    Conversation.objects.create(owner=alice, title="secret")
    counts = dict(people.will_delete([alice]))
    assert (counts["conversations"], counts["users"]) == (1, 1)


LOCKOUTS: dict[str, Callable[[Actor, User], Any]] = {
    "role": lambda actor, root: people.set_role(actor, [root], Role.USER),
    "deactivate": lambda actor, root: people.deactivate(actor, [root]),
    "everyone": lambda actor, root: people.deactivate(actor, list(User.objects.all())),
}


@pytest.mark.parametrize("how", LOCKOUTS)
def test_the_last_administrator_can_not_be_removed(
    actor: Actor, root: User, alice: User, how: str, recorded: Recorded
) -> None:
    with pytest.raises(roles.LastAdministrator, match="at least one active"):
        LOCKOUTS[how](Actor(None, via="cli"), root)
    found = User.objects.get(pk=root.pk)
    assert (found.effective_role, found.is_active) == (Role.ADMINISTRATOR, True)
    assert recorded == []
    people.set_role(actor, [alice], Role.ADMINISTRATOR)
    if how == "deactivate":
        with pytest.raises(people.OwnAccount):
            LOCKOUTS[how](actor, User.objects.get(pk=root.pk))
    if how != "everyone":
        LOCKOUTS[how](Actor(alice), User.objects.get(pk=root.pk))


def test_members_of_local_groups_are_set_here(
    actor: Actor, root: User, alice: User, recorded: Recorded
) -> None:
    team, staff = people.create_group(actor, "team"), directory_group("staff")
    alice.groups.add(staff)
    assert people.add_members(actor, team, [alice, root]) == 2
    assert people.add_members(actor, team, [alice]) == 0
    assert people.remove_members(actor, team, [alice]) == 1
    assert people.set_local_groups(actor, alice, [team])
    assert not people.set_local_groups(actor, alice, [team])
    assert {group.name for group in alice.groups.all()} == {"team", "staff"}
    people.set_local_groups(actor, alice, [])
    assert {group.name for group in alice.groups.all()} == {"staff"}
    for change in (
        lambda: people.add_members(actor, staff, [root]),
        lambda: people.remove_members(actor, staff, [alice]),
        lambda: people.set_local_groups(actor, root, [staff]),
        lambda: people.create(actor, username="x", groups=[staff]),
    ):
        with pytest.raises(people.DirectoryGroup) as caught:
            change()
        assert "“staff” come from the directory" in str(caught.value)
    assert not User.objects.filter(username="x").exists()
    kinds = [kind for kind, _name, _details in recorded]
    assert kinds.count("user.groups_changed") == 2


def test_a_group_is_changed_and_deleted(actor: Actor, alice: User, recorded: Recorded) -> None:
    group = people.create_group(actor, "team")
    people.add_members(actor, group, [alice])
    assert people.change_group(actor, group, name="crew", role=Role.MODEL_MANAGER)
    assert not people.change_group(actor, group, name="crew", mfa_required=False)
    assert User.objects.get(pk=alice.pk).effective_role == Role.MODEL_MANAGER
    people.create_group(actor, "other")
    with pytest.raises(people.GroupNameTaken):
        people.change_group(actor, group, name="OTHER")
    with pytest.raises(people.BadGroupName):
        people.create_group(actor, "  ")
    people.delete_group(actor, group)
    assert User.objects.get(pk=alice.pk).effective_role == Role.USER
    kind, name, details = recorded[-1]
    assert (kind, name, details) == ("group.deleted", "crew", {"members": 1})


def test_a_group_can_not_take_the_last_administrator(actor: Actor, root: User) -> None:
    group = people.create_group(actor, "owners", role=Role.ADMINISTRATOR)
    people.add_members(actor, group, [root])
    people.set_role(actor, [root], Role.USER)
    for change in (
        lambda: people.delete_group(actor, Group.objects.get(pk=group.pk)),
        lambda: people.change_group(actor, group, role=Role.USER),
        lambda: people.remove_members(actor, group, [root]),
        lambda: people.set_local_groups(actor, root, []),
    ):
        with pytest.raises(roles.LastAdministrator):
            change()
    assert User.objects.get(pk=root.pk).effective_role == Role.ADMINISTRATOR


def test_a_large_group_changes_role_in_few_queries(
    actor: Actor, django_assert_max_num_queries: Any
) -> None:
    group = people.create_group(actor, "everyone")
    users = User.objects.bulk_create(User(username=f"user{n}") for n in range(1200))
    group.user_set.add(*users)
    with django_assert_max_num_queries(60):
        people.change_group(actor, group, role=Role.AUDITOR)
    assert User.objects.filter(effective_role=Role.AUDITOR, is_staff=True).count() == 1200


class TestCommand:
    def run(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        call_command("people", *arguments)
        return capsys.readouterr().out

    def test_users_are_listed_and_shown(
        self, capsys: Any, root: User, alice: User, actor: Actor
    ) -> None:
        group = people.create_group(actor, "team", role=Role.AUDITOR)
        people.add_members(actor, group, [alice])
        people.deactivate(actor, [alice])
        everyone = self.run(capsys, "list")
        assert "root  administrator" in everyone
        assert "alice  auditor  deactivated" in everyone
        assert "root" not in self.run(capsys, "list", "--disabled", "--group", "TEAM")
        shown = self.run(capsys, "show", "ALICE@example.org", "--json")
        assert '"own_role": "user"' in shown
        assert '"groups": [\n    "team"\n  ]' in shown
        assert "No users." in self.run(capsys, "list", "--role", "model_manager")

    def test_users_are_changed(self, capsys: Any, root: User, alice: User) -> None:
        assert "alice: deactivated" in self.run(capsys, "disable", "alice")
        assert "alice: active" in self.run(capsys, "enable", "Alice")
        assert "alice: auditor" in self.run(capsys, "role", "alice", "auditor")
        self.run(capsys, "groups", "--create", "team", "--role", "model_manager")
        assert "alice: team" in self.run(capsys, "groups", "alice", "--add", "team")
        shown = self.run(capsys, "role", "alice")
        assert "alice: model_manager (own role: auditor)" in shown
        assert "team  model_manager  members: 1" in self.run(capsys, "groups")
        assert "alice: no groups" in self.run(capsys, "groups", "alice", "--remove", "team")

    def test_a_user_is_created_with_a_link_for_the_password(self, capsys: Any, root: User) -> None:
        url = self.run(capsys, "create", "bob", "--email", "bob@example.org", "--role", "auditor")
        assert url.startswith("http")
        assert "/accounts/password/new/" in url
        assert User.objects.get(username="bob").effective_role == Role.AUDITOR
        assert "/accounts/password/new/" in self.run(capsys, "reset-password", "bob")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["show", "nobody"], "There is no user nobody"),
            (["disable", "root"], "at least one active administrator"),
            (["disable", "alice", "root"], "at least one active administrator"),
            (["role", "root", "user"], "at least one active administrator"),
            (["role", "alice", "king"], "There is no role king. Choose from: administrator"),
            (["groups", "alice", "--add", "none"], "There is no group none"),
            (["groups", "alice", "--add", "staff"], "come from the directory"),
            (["groups", "--add", "staff"], "Name the user"),
            (["create", "ALICE"], "already taken"),
            (["reset-password", "gone"], "is deactivated"),
        ],
    )
    def test_errors_say_what_to_do(
        self, root: User, alice: User, arguments: list[str], said: str
    ) -> None:
        directory_group("staff")
        User.objects.create_user("gone", is_active=False)
        with pytest.raises((CommandError, ChatsiteError), match=said):
            call_command("people", *arguments)
        assert User.objects.get(pk=alice.pk).is_active
