"""People: auditors read users, groups, sessions and keys; administrators change them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from django.contrib.sessions.backends.db import SessionStore

from chatsite.accounts import invitations
from chatsite.accounts.models import SignUp, User
from chatsite.accounts.roles import Role
from tests.integration.web.strangers.table import Row, World, admin

AUDITOR = Role.AUDITOR
USER = {"id": "person"}
GROUP = {"id": "group"}
KEY = {"id": "key"}


def _waiting(world: World) -> Any:
    user = User.objects.create_user("waiting", is_active=False)
    SignUp.objects.create(user=user, waiting_for="approval")
    return user.pk


def _session(world: World) -> Any:
    session = SessionStore()
    session.save()
    return world.owner.browser_sessions.create(session_key=str(session.session_key)).pk


FACTS = {
    "person": lambda world: world.owner.pk,
    "group": lambda world: Group.objects.create(name="Team").pk,
    "invitation": lambda world: invitations.create(by=world.root, username="guest")[0].pk,
    "waiting_user": _waiting,
    "browser_session": _session,
}

ROWS: list[Row] = [
    admin("people/", "GET", AUDITOR),
    admin("people/users/new/"),
    admin("people/users/new/", "POST", form={}),
    admin("people/users/bulk/", "POST", status=302),
    admin("people/users/<int:id>/", "GET", AUDITOR, args=USER),
    admin("people/users/<int:id>/", "POST", args=USER, form={"form": "profile"}),
    admin("people/users/<int:id>/activate/", "POST", args=USER, status=302),
    admin("people/users/<int:id>/deactivate/", "POST", args=USER, status=302),
    admin("people/users/<int:id>/password/", "POST", args=USER),
    admin("people/users/<int:id>/mfa/", "POST", args=USER, status=302),
    admin("people/users/<int:id>/sessions/", "POST", args=USER, status=302),
    admin("people/users/<int:id>/keys/", "POST", args=USER, status=302),
    admin("people/users/<int:id>/delete/", "POST", args=USER),
    admin("people/users/<int:id>/delete/", "POST", args=USER, form={"confirmed": 1}, status=302),
    admin("people/groups/", "GET", AUDITOR),
    admin("people/groups/new/"),
    admin("people/groups/<int:id>/", "GET", AUDITOR, args=GROUP),
    admin("people/groups/<int:id>/", "POST", args=GROUP, form={"name": ""}),
    admin("people/groups/<int:id>/members/", "POST", args=GROUP, status=302),
    admin("people/groups/<int:id>/delete/", "POST", args=GROUP),
    admin("people/invitations/", "GET", AUDITOR),
    admin("people/invitations/", "POST", form={"role": "x"}),
    admin("people/invitations/<int:id>/revoke/", "POST", args={"id": "invitation"}, status=302),
    admin("people/sign-ups/<int:id>/approve/", "POST", args={"id": "waiting_user"}, status=302),
    admin("people/sign-ups/<int:id>/refuse/", "POST", args={"id": "waiting_user"}, status=302),
    admin("people/sessions/", "GET", AUDITOR),
    admin("people/sessions/<int:id>/end/", "POST", args={"id": "browser_session"}, status=302),
    admin("people/keys/", "GET", AUDITOR),
    admin("people/keys/<int:id>/revoke/", "POST", args=KEY, status=302),
]
