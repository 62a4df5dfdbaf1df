"""Roles: which one takes effect, what it permits, and that an administrator always remains."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import transaction

from chatsite.accounts import roles
from chatsite.accounts.models import GroupProfile, User
from chatsite.accounts.roles import Role

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice")


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root")


def group(name: str, role: str) -> Group:
    made = Group.objects.create(name=name)
    profile = made.profile
    profile.role = role
    profile.save()
    return made


def stored(user: User) -> tuple[str, bool, bool]:
    found = User.objects.get(pk=user.pk)
    return found.effective_role, found.is_staff, found.is_superuser


def test_the_role_decides_the_flags(alice: User) -> None:
    assert stored(alice) == (Role.USER, False, False)
    for role, flags in (
        (Role.AUDITOR, (True, False)),
        (Role.ADMINISTRATOR, (True, True)),
        (Role.MODEL_MANAGER, (True, False)),
    ):
        alice.role = role
        alice.save()
        assert stored(alice) == (role, *flags)
        if role == Role.ADMINISTRATOR:
            User.objects.create_superuser("root")
    alice.role = Role.USER
    alice.save(update_fields=["role"])
    assert stored(alice) == (Role.USER, False, False)


def test_a_superuser_of_a_command_or_a_library_is_an_administrator(alice: User, root: User) -> None:
    assert (root.role, *stored(root)) == (Role.ADMINISTRATOR, Role.ADMINISTRATOR, True, True)
    alice.is_superuser = True
    alice.save()
    assert (alice.role, *stored(alice)) == (Role.ADMINISTRATOR, Role.ADMINISTRATOR, True, True)
    alice.is_superuser = False
    alice.save()
    assert (alice.role, *stored(alice)) == (Role.USER, Role.USER, False, False)


def test_staff_of_an_older_installation_stay_staff_until_their_role_changes() -> None:
    staff = User.objects.create_user("staff", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="view_job"))
    staff.first_name = "x"
    staff.save()
    found = User.objects.get(pk=staff.pk)
    assert (found.is_staff, found.has_perm("models_admin.view_job")) == (True, True)
    for role in (Role.AUDITOR, Role.USER):
        staff.role = role
        staff.save()
    assert stored(staff) == (Role.USER, False, False)


def test_the_highest_role_of_user_and_groups_takes_effect(alice: User) -> None:
    auditors, managers = group("auditors", Role.AUDITOR), group("managers", Role.MODEL_MANAGER)
    alice.groups.add(auditors)
    assert stored(alice)[0] == alice.effective_role == Role.AUDITOR
    managers.user_set.add(alice)
    assert stored(alice) == (Role.MODEL_MANAGER, True, False)
    managers.user_set.clear()
    assert stored(alice)[0] == Role.AUDITOR
    profile = auditors.profile
    profile.role = Role.USER
    profile.save()
    assert stored(alice) == (Role.USER, False, False)
    alice.groups.set([managers])
    assert stored(alice)[0] == Role.MODEL_MANAGER
    managers.delete()
    assert stored(alice)[0] == Role.USER
    alice.groups.add(auditors)
    alice.groups.clear()
    assert stored(alice)[0] == Role.USER


def test_a_user_who_was_loaded_before_can_not_undo_a_demotion(alice: User, root: User) -> None:
    administrators = group("administrators", Role.ADMINISTRATOR)
    alice.groups.add(administrators)
    stale = User.objects.get(pk=alice.pk)
    alice.groups.clear()
    User.objects.filter(pk=alice.pk).update(is_active=False)
    stale.set_password("x")
    stale.save()
    assert stored(alice) == (Role.USER, False, False)
    stale = User.objects.get(pk=root.pk)
    User.objects.create_superuser("second")
    current = User.objects.get(pk=root.pk)
    current.role = Role.USER
    current.save()
    stale.save()
    assert stored(root) == (Role.USER, False, False)
    assert not User.objects.get(pk=alice.pk).is_active


@pytest.mark.parametrize("through", ["role", "active", "delete", "bulk", "group", "profile"])
def test_the_last_active_administrator_stays(alice: User, through: str) -> None:
    administrators = group("administrators", Role.ADMINISTRATOR)
    alice.groups.add(administrators)
    User.objects.create_superuser("former", is_active=False)

    def take() -> None:
        user = User.objects.get(pk=alice.pk)
        if through == "role":
            user.is_superuser = True
            user.role = Role.ADMINISTRATOR
            user.save()
            user.groups.clear()
            user.role = Role.MODEL_MANAGER
            user.save()
        elif through == "active":
            user.is_active = False
            user.save()
        elif through == "delete":
            user.delete()
        elif through == "bulk":
            User.objects.all().delete()
        elif through == "group":
            administrators.delete()
        else:
            profile = GroupProfile.objects.get(group=administrators)
            profile.role = Role.AUDITOR
            profile.save()

    with pytest.raises(roles.LastAdministrator), transaction.atomic():
        take()
    found = User.objects.get(pk=alice.pk)
    assert (found.effective_role, found.is_active) == (Role.ADMINISTRATOR, True)
    User.objects.create_superuser("second")
    if through == "bulk":
        User.objects.exclude(username="second").delete()
    else:
        take()
    assert User.objects.filter(is_superuser=True, is_active=True).count() == 1


def test_each_role_has_its_permissions(alice: User) -> None:
    wanted = {
        Role.USER: set(),
        Role.AUDITOR: {"audit.view_event", "usage.view_report", "accounts.view_user"},
        Role.MODEL_MANAGER: {"models_admin.change_modelname", "assistants.add_assistant"},
    }
    every = set().union(*wanted.values()) | {"accounts.change_user", "chat.change_generation"}
    for role, granted in wanted.items():
        alice.role = role
        alice.save()
        user = User.objects.get(pk=alice.pk)
        assert {one for one in every if user.has_perm(one)} == granted
        assert user.get_all_permissions() >= granted
        assert user.has_module_perms("models_admin") is (role == Role.MODEL_MANAGER)
        user.is_active = False
        assert not any(user.has_perm(one) for one in every)


def test_a_permission_of_a_role_costs_the_queries_of_the_user_only(
    alice: User, django_assert_num_queries
) -> None:
    """Django reads the permissions of the user and of the groups once; the role adds no query."""
    alice.role = Role.AUDITOR
    alice.save()
    user = User.objects.get(pk=alice.pk)
    with django_assert_num_queries(2):
        assert user.has_perm("audit.view_event")
        assert user.has_perm("usage.view_report")
