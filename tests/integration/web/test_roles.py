"""One user of each role tries what the role must not do, through page, API and command line.

The stranger table (`strangers/`) tries every address; this is about what would do harm.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from chatsite.accounts import keys, people
from chatsite.accounts.models import User
from chatsite.accounts.people import Actor
from chatsite.accounts.roles import Role
from models_admin.models import ModelName, ModelVersion
from tests.support.pages import data_dir, unbuilt

__all__ = ["data_dir", "unbuilt"]

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir", "root")]


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root")


@pytest.fixture
def model() -> ModelName:
    version = ModelVersion.objects.create(digest="a" * 64, size=1)
    return ModelName.objects.create(name="tiny:latest", version=version)


def signed_in(role: Role) -> tuple[User, Client]:
    user = User.objects.create_user(role, role=role)
    client = Client()
    client.force_login(user)
    return user, client


def status(client: Client, address: str, **data: Any) -> int:
    response = client.post(address, data) if data else client.get(address)
    return response.status_code


def test_an_auditor_changes_neither_models_nor_users(model: ModelName) -> None:
    auditor, client = signed_in(Role.AUDITOR)
    change = f"/admin/models_admin/modelname/{model.pk}/change/"
    assert status(client, change, name="mine:latest") == 403
    assert status(client, "/admin/models_admin/modelname/", switch=model.pk) == 403
    assert status(client, "/admin/jobs/") == 403
    page = f"/admin/people/users/{auditor.pk}/"
    assert status(client, page) == 200
    assert status(client, page, form="access", role=Role.ADMINISTRATOR) == 403
    assert status(client, "/admin/people/users/new/", username="x", role="administrator") == 403
    bulk = {"action": "role-administrator", "user": [auditor.pk]}
    assert status(client, "/admin/people/users/bulk/", **bulk) == 403
    found = User.objects.get(pk=auditor.pk)
    assert (found.effective_role, User.objects.count()) == (Role.AUDITOR, 2)
    assert ModelName.objects.get().enabled


def test_a_model_manager_reads_neither_users_nor_the_audit_log(model: ModelName) -> None:
    _manager, client = signed_in(Role.MODEL_MANAGER)
    assert status(client, "/admin/models_admin/modelname/") == 200
    for page in ("people/", "people/keys/", "people/sessions/", "audit/", "usage/", "policy/"):
        assert status(client, f"/admin/{page}") == 403, page
    assert status(client, "/admin/settings/") == 403
    assert status(client, "/admin/accounts/user/") == 403
    assert status(client, "/admin/privacy/reads/") == 403


def test_a_user_opens_nothing_of_the_administration() -> None:
    _user, client = signed_in(Role.USER)
    response = client.get("/admin/", follow=True)
    assert response.status_code == 403
    for page in ("people/", "audit/", "jobs/", "policy/", "usage/", "settings/"):
        assert client.get(f"/admin/{page}", follow=True).status_code == 403, page


def test_a_raised_and_demoted_user_keeps_the_session_with_other_rights(root: User) -> None:
    user, client = signed_in(Role.USER)
    people.set_role(Actor(root), [user], Role.ADMINISTRATOR)
    assert status(client, "/admin/people/") == 200
    people.set_role(Actor(root), [user], Role.MODEL_MANAGER)
    assert status(client, "/admin/people/") == 403
    assert status(client, "/accounts/keys/") == 200


def test_the_command_line_acts_for_administrators_only(root: User) -> None:
    auditor, _client = signed_in(Role.AUDITOR)
    people.set_role(Actor(None, via="cli"), [auditor], Role.USER)
    with pytest.raises(CommandError, match="at least one active administrator"):
        call_command("people", "role", "root", "auditor")
    assert User.objects.get(pk=root.pk).effective_role == Role.ADMINISTRATOR


@pytest.mark.django_db(transaction=True)  # API requests use a separate database thread
@pytest.mark.parametrize("role", [Role.AUDITOR, Role.USER])
def test_a_key_for_changes_needs_the_role_too(role: Role, model: ModelName) -> None:
    user, _client = signed_in(role)
    _key, text = keys.create(user, scopes=keys.ALL_SCOPES)
    client = Client(HTTP_HOST="127.0.0.1")
    headers = {"Authorization": f"Bearer {text}"}
    response = client.delete(
        "/api/delete", {"model": model.name}, "application/json", headers=headers
    )
    assert response.status_code == 403
    assert ModelName.objects.filter(pk=model.pk).exists()
