"""Sign-in with a real OpenLDAP server."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import aget_user
from django.contrib.auth.models import Group
from django.http import HttpRequest
from django.test import Client

from chatsite.accounts.models import DirectoryIdentity, User
from tests.integration.accounts.directory.conftest import USERS
from tests.support.slapd import group_dn, user_dn
from tests.support.stack import free_port

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("ldap_settings", "redis", "administrator"),
]


def sign_in(client: Client, name: str, password: str | None = None) -> Any:
    return client.post(
        "/accounts/login/",
        {"login": name, "password": USERS[name] if password is None else password},
    )


def errors(response: Any) -> str:
    return str(response.context["form"].errors)


def groups_of(name: str) -> set[str]:
    return set(User.objects.get(username=name).groups.values_list("name", flat=True))


def test_the_first_sign_in_creates_the_account_with_nested_groups_and_role(
    client: Client, configure: Any, recorded: list[Any]
) -> None:
    configure(ldap_roles=(("chat", "model_manager"), (group_dn("loop"), "auditor")))
    response = sign_in(client, "alice")
    assert (response.status_code, response.url) == (302, "/")
    alice = User.objects.get(username="alice")
    assert (alice.email, alice.first_name, alice.last_name) == (
        "alice@example.org",
        "Alice",
        "Example",
    )
    assert not alice.has_usable_password()
    assert groups_of("alice") == {"ml", "chat"}
    assert (alice.effective_role, alice.is_staff) == ("model_manager", True)
    assert {kind for kind, _ in recorded} >= {"user.provisioned", "group.synced"}
    assert client.get("/accounts/keys/").status_code == 200
    request = HttpRequest()
    request.session = client.session
    assert async_to_sync(aget_user)(request) == alice  # as asynchronous views do
    sign_in(Client(), "dave")
    assert User.objects.get(username="dave").effective_role == "auditor"


def test_groups_and_role_follow_the_directory_at_each_sign_in(
    client: Client, configure: Any, slapd: Any
) -> None:
    configure(ldap_roles=(("chat", "auditor"),))
    sign_in(client, "bob")
    bob = User.objects.get(username="bob")
    local = Group.objects.create(name="book club")
    bob.groups.add(local)
    assert bob.effective_role == "auditor"
    slapd.set_members("chat", [group_dn("ml")])
    try:
        sign_in(Client(), "bob")
    finally:
        slapd.set_members("chat", [group_dn("ml"), user_dn("bob")])
    assert groups_of("bob") == {"book club"}
    bob.refresh_from_db()
    assert (bob.effective_role, bob.is_staff) == ("user", False)


def test_a_local_group_of_the_same_name_gets_no_members(client: Client) -> None:
    Group.objects.create(name="chat")
    sign_in(client, "bob")
    assert groups_of("bob") == {"chat (ldap)"}
    sign_in(Client(), "bob")
    assert groups_of("bob") == {"chat (ldap)"}


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("alice", "wrong"),
        ("nobody", "secret"),
        ("*", "alice secret"),
        ("alice)(uid=*", "alice secret"),
        ("alice%(user)s", "alice secret"),
        (user_dn("alice"), "alice secret"),
        ("alice", "*"),
    ],
)
def test_wrong_or_crafted_credentials_get_the_form_again(
    client: Client, name: str, password: str
) -> None:
    response = sign_in(client, name, password)
    assert response.status_code == 200
    assert response.context["form"].errors
    assert not User.objects.exclude(username="root").exists()


def test_an_empty_password_never_reaches_the_directory() -> None:
    """A bind with an empty password is anonymous, and succeeds (RFC 4513, 5.1.2)."""
    from chatsite.accounts.directory.ldap import Backend

    assert Backend().authenticate(None, "alice", "") is None
    assert Backend().authenticate(None, "alice", None) is None
    assert Backend().authenticate(None, "alice", "a\0b") is None


def test_only_members_of_an_allowed_group_sign_in(client: Client, configure: Any) -> None:
    configure(ldap_allowed_groups=("chat",))
    assert sign_in(client, "alice").status_code == 302
    response = sign_in(Client(), "carol")
    assert "may not sign in here" in errors(response)
    assert not User.objects.filter(username="carol").exists()


def test_a_local_account_of_the_same_name_is_not_taken_over(
    client: Client, configure: Any, slapd: Any
) -> None:
    User.objects.create_user("alice", password="local secret")
    assert sign_in(client, "alice").status_code == 200
    assert sign_in(client, "alice", "local secret").status_code == 302
    configure(ldap_link_accounts=True)
    assert sign_in(Client(), "alice").status_code == 302
    alice = User.objects.get(username="alice")
    assert alice.identities.get().source == "ldap"
    assert not alice.has_usable_password()


def test_an_administrators_account_is_never_taken_over(client: Client, configure: Any) -> None:
    configure(ldap_link_accounts=True)
    User.objects.create_superuser("bob", password="local secret")
    assert sign_in(client, "bob").status_code == 200
    assert not DirectoryIdentity.objects.exists()


def test_a_renamed_user_keeps_the_account(client: Client, slapd: Any) -> None:
    slapd.add_user("frank", "frank secret")
    sign_in(client, "frank", "frank secret")
    before = User.objects.get(username="frank")
    with slapd.admin() as link:
        link.rename_s(user_dn("frank"), "uid=franklin")
    try:
        assert sign_in(Client(), "franklin", "frank secret").status_code == 302
    finally:
        slapd.delete_user("franklin")
    assert DirectoryIdentity.objects.get(user=before).name == "franklin"
    assert User.objects.exclude(username="root").count() == 1


def test_sign_in_by_e_mail_where_configured(client: Client, configure: Any) -> None:
    configure(ldap_login_attributes=("uid", "mail"))
    assert sign_in(client, "alice@example.org", "alice secret").status_code == 302
    assert User.objects.filter(username="alice").exists()


def test_a_dead_or_silent_server_is_a_clear_message_and_locals_still_sign_in(
    client: Client, configure: Any, slapd: Any
) -> None:
    with slapd.silent():
        assert "not responding" in errors(sign_in(client, "alice"))
        assert sign_in(Client(), "root", "correct horse battery").status_code == 302
        # A local account's wrong password does not ask the directory either.
        assert "not responding" not in errors(sign_in(Client(), "root", "wrong"))
        # libldap does not bound the TLS handshake.
        configure(ldap_url=(slapd.tls_url,), ldap_ca_file=slapd.certificate.chain)
        assert "not responding" in errors(sign_in(Client(), "alice"))
    configure(ldap_url=(f"ldap://127.0.0.1:{free_port()}",), ldap_ca_file=None)
    assert "not responding" in errors(sign_in(Client(), "alice"))


@pytest.mark.parametrize("kind", ["ldaps", "starttls"])
def test_encrypted_connections_check_the_certificate(
    client: Client, configure: Any, slapd: Any, kind: str
) -> None:
    if kind == "ldaps":
        dead = f"ldaps://127.0.0.1:{free_port()}"
        configure(ldap_url=(dead, slapd.tls_url))
    else:
        configure(ldap_start_tls=True)
    assert "not responding" in errors(sign_in(client, "alice"))
    configure(ldap_ca_file=slapd.certificate.chain)
    assert sign_in(client, "alice").status_code == 302


def test_a_wrong_bind_password_is_not_the_users_mistake(
    client: Client, configure: Any, tmp_path: Any
) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("wrong")
    configure(ldap_bind_password_file=wrong)
    assert "not responding" in errors(sign_in(client, "alice"))


def test_a_disabled_account_is_told_so_only_with_the_right_password(client: Client) -> None:
    sign_in(client, "alice")
    User.objects.filter(username="alice").update(is_active=False)
    assert "disabled" in errors(sign_in(Client(), "alice"))
    assert "disabled" not in errors(sign_in(Client(), "alice", "wrong"))
    assert client.get("/accounts/keys/").status_code == 302


def test_accounts_are_not_created_where_that_is_off(client: Client, configure: Any) -> None:
    configure(ldap_create_accounts=False)
    assert "no account here yet" in errors(sign_in(client, "alice"))


def test_active_directory_resolves_nested_groups_on_the_server(configure: Any) -> None:
    from chatsite.accounts.directory import ldap

    configure(ldap_kind="active_directory")
    searches: list[tuple[str, str]] = []

    class Connection:
        def search_s(self, base: str, scope: int, text: str, attributes: Any) -> list[Any]:
            searches.append((base, text))
            return []

    class Bound:
        dn, connection = "CN=Ann (100%),DC=x", Connection()
        attrs: dict[str, list[str]] = {}

    ldap.group_type().user_groups(Bound(), ldap.group_search())
    assert searches[0][1] == (
        "(&(objectClass=group)"
        r"(member:1.2.840.113556.1.4.1941:=CN=Ann \28100%\29,DC=x))"
    )
    guid = bytes(range(16))
    assert ldap.identifier({"objectGUID": [guid]}, "objectGUID") == (
        "03020100-0504-0706-0809-0a0b0c0d0e0f"
    )
