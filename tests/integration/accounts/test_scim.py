"""SCIM 2.0 with the request shapes of Entra ID and Okta."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from chatsite.accounts import keys
from chatsite.accounts.models import ApiKey, DirectoryIdentity, User

pytestmark = pytest.mark.django_db

TOKEN = "a token of at least 32 characters"
PATCH_OP = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


class Scim:
    """A client with the bearer token."""

    def __init__(self, token: str = TOKEN) -> None:
        self._client = Client(headers={"Authorization": f"Bearer {token}"})

    def __call__(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        response = self._client.generic(
            method,
            f"/scim/v2/{path}",
            data="" if body is None else json.dumps(body),
            content_type="application/scim+json",
            query_params=query,
        )
        self.status = response.status_code
        return response.json() if response.content else None

    def user(self, name: str = "ann@example.org", **more: Any) -> Any:
        found = self("POST", "Users", {"userName": name, "externalId": f"ext-{name}", **more})
        assert self.status == 201, found
        return found

    def patch(self, path: str, *operations: dict[str, Any]) -> Any:
        return self("PATCH", path, {"schemas": [PATCH_OP], "Operations": list(operations)})


@pytest.fixture
def scim(settings: Any) -> Scim:
    settings.ENV = settings.ENV.model_copy(update={"scim_token": TOKEN})
    User.objects.create_superuser("root")
    return Scim()


def members(group: Any) -> set[str]:
    return {one["value"] for one in group["members"]}


ENTRA_USER = {
    "schemas": [
        "urn:ietf:params:scim:schemas:core:2.0:User",
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
    ],
    "externalId": "0a21f0f2-8d2a-4f8e-bf98-7363c4aed4ef",
    "userName": "Test_User_ab6490ee@example.org",
    "active": True,
    "emails": [{"primary": True, "type": "work", "value": "test@example.org"}],
    "meta": {"resourceType": "User"},
    "name": {"formatted": "given family", "familyName": "family", "givenName": "given"},
    "roles": [],
    "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "IT"},
}


def test_entra_provisions_changes_and_disables_a_user(scim: Scim) -> None:
    assert scim("GET", "Users", filter='userName eq "Test_User_ab6490ee@example.org"') == {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": 0,
        "startIndex": 1,
        "itemsPerPage": 0,
        "Resources": [],
    }
    made = scim("POST", "Users", ENTRA_USER)
    assert scim.status == 201
    assert made["userName"] == ENTRA_USER["userName"]
    assert made["externalId"] == ENTRA_USER["externalId"]
    assert made["name"]["givenName"] == "given"
    assert made["emails"][0]["value"] == "test@example.org"
    path = f"Users/{made['id']}"
    found = scim("GET", "Users", filter=f'externalId eq "{ENTRA_USER["externalId"]}"')
    assert [one["id"] for one in found["Resources"]] == [made["id"]]
    changed = scim.patch(
        path,
        {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "new@example.org"},
        {"op": "Replace", "path": "name.familyName", "value": "Family"},
        {"op": "Add", "path": "title", "value": "ignored"},
        {
            "op": "Add",
            "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department",
            "value": "R&D",
        },
    )
    assert scim.status == 200
    assert changed["emails"][0]["value"] == "new@example.org"
    assert (changed["name"]["givenName"], changed["name"]["familyName"]) == ("given", "Family")
    user = User.objects.get(pk=made["id"])
    key, _text = keys.create(user)
    assert (
        scim.patch(path, {"op": "Replace", "path": "active", "value": "False"})["active"] is False
    )
    user.refresh_from_db()
    assert not user.is_active
    assert ApiKey.objects.get(pk=key.pk).revoked_at
    assert scim.patch(path, {"op": "Replace", "path": "active", "value": "True"})["active"] is True
    user.refresh_from_db()
    assert user.is_active


def test_okta_provisions_changes_and_disables_a_user(scim: Scim) -> None:
    made = scim(
        "POST",
        "Users",
        {
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
            "userName": "test.user@okta.local",
            "name": {"givenName": "Test", "familyName": "User"},
            "emails": [{"primary": True, "value": "test.user@okta.local", "type": "work"}],
            "displayName": "Test User",
            "locale": "en-US",
            "externalId": "00ujl29u0le5T6Aj10h7",
            "groups": [],
            "password": "1mz050nq",
            "active": True,
        },
    )
    assert scim.status == 201
    assert not User.objects.get(pk=made["id"]).has_usable_password()
    path = f"Users/{made['id']}"
    off = scim.patch(path, {"op": "replace", "value": {"active": False}})
    assert (scim.status, off["active"]) == (200, False)
    on = scim("PUT", path, {**made, "active": True, "name": {"givenName": "Other"}})
    assert (on["active"], on["name"]["givenName"], on["name"]["familyName"]) == (True, "Other", "")


def test_the_session_of_a_disabled_user_ends(scim: Scim) -> None:
    made = scim.user()
    client = Client()
    client.force_login(User.objects.get(pk=made["id"]), "django.contrib.auth.backends.ModelBackend")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chatsite.accounts.sessions.end", lambda *_: None)
        scim.patch(f"Users/{made['id']}", {"op": "replace", "value": {"active": False}})
        scim.patch(f"Users/{made['id']}", {"op": "replace", "value": {"active": True}})
    assert client.get("/accounts/keys/").status_code == 302


@pytest.mark.parametrize("provider", ["entra", "okta"])
def test_members_come_and_go(scim: Scim, settings: Any, provider: str) -> None:
    settings.ENV = settings.ENV.model_copy(update={"scim_roles": (("ml", "model_manager"),)})
    ann, bob = scim.user("ann"), scim.user("bob")
    made = scim("POST", "Groups", {"displayName": "ml", "externalId": "g-1"})
    assert scim.status == 201
    path = f"Groups/{made['id']}"
    value = [{"value": ann["id"]}, {"value": bob["id"]}]
    op = "Add" if provider == "entra" else "add"
    assert members(scim.patch(path, {"op": op, "path": "members", "value": value})) == {
        ann["id"],
        bob["id"],
    }
    assert User.objects.get(username="ann").effective_role == "model_manager"
    if provider == "entra":
        gone: dict[str, Any] = {"op": "Remove", "path": "members", "value": [{"value": ann["id"]}]}
    else:
        gone = {"op": "remove", "path": f'members[value eq "{ann["id"]}"]'}
    assert members(scim.patch(path, gone)) == {bob["id"]}
    assert User.objects.get(username="ann").effective_role == "user"
    assert scim("GET", f"Users/{bob['id']}")["groups"] == [{"value": made["id"], "display": "ml"}]
    assert "members" not in scim("GET", path, excludedAttributes="members")
    renamed = scim.patch(path, {"op": "replace", "value": {"id": made["id"], "displayName": "ai"}})
    assert (renamed["displayName"], members(renamed)) == ("ai", {bob["id"]})
    found = scim("GET", "Groups", filter='displayName eq "AI"', excludedAttributes="members")
    assert [one["externalId"] for one in found["Resources"]] == ["g-1"]
    scim.patch(path, {"op": "remove", "path": "members"})
    assert scim("GET", path)["members"] == []
    scim("DELETE", path)
    assert scim.status == 204
    scim("GET", path)
    assert scim.status == 404


def test_a_local_group_of_the_same_name_is_another_group(scim: Scim) -> None:
    local = Group.objects.create(name="staff")
    made = scim("POST", "Groups", {"displayName": "staff"})
    assert (scim.status, made["displayName"]) == (201, "staff")
    assert made["id"] != str(local.pk)
    assert scim("POST", "Groups", {"displayName": "Staff"})["scimType"] == "uniqueness"
    scim("GET", f"Groups/{local.pk}")
    assert scim.status == 404


def test_lists_are_paged(scim: Scim) -> None:
    for number in range(5):
        scim.user(f"user{number}")
    page = scim("GET", "Users", startIndex=2, count=2)
    assert (page["totalResults"], page["startIndex"], page["itemsPerPage"]) == (5, 2, 2)
    assert [one["userName"] for one in page["Resources"]] == ["user1", "user2"]
    assert scim("GET", "Users", count=0)["totalResults"] == 5
    assert scim("GET", "Users", startIndex=99)["Resources"] == []
    scim("GET", "Users", count="many")
    assert scim.status == 400


def test_local_users_are_neither_shown_nor_taken_over(scim: Scim, settings: Any) -> None:
    local = User.objects.create_user("local", password="secret")
    assert scim("GET", "Users", filter='userName eq "local"')["totalResults"] == 0
    refused = scim("POST", "Users", {"userName": "local"})
    assert (scim.status, refused["scimType"]) == (409, "uniqueness")
    for path in (f"Users/{local.pk}", f"Users/{User.objects.get(username='root').pk}"):
        scim.patch(path, {"op": "replace", "value": {"active": False}})
        assert scim.status == 404
    settings.ENV = settings.ENV.model_copy(update={"scim_link_accounts": True})
    assert scim("GET", "Users", filter='userName eq "local"')["totalResults"] == 1
    assert scim("GET", "Users", filter='userName eq "root"')["totalResults"] == 0
    scim("PUT", f"Users/{local.pk}", {"userName": "local", "externalId": "e"})
    local.refresh_from_db()
    assert not local.has_usable_password()


def test_an_account_that_an_administrator_disabled_stays_disabled(scim: Scim) -> None:
    made = scim.user()
    User.objects.filter(pk=made["id"]).update(is_active=False)
    body = {"userName": "ann@example.org", "active": True}
    assert scim("PUT", f"Users/{made['id']}", body)["active"] is False


def test_the_last_administrator_is_kept(scim: Scim, settings: Any) -> None:
    settings.ENV = settings.ENV.model_copy(update={"scim_roles": (("admins", "administrator"),)})
    ann = scim.user()
    group = scim("POST", "Groups", {"displayName": "admins", "members": [{"value": ann["id"]}]})
    User.objects.get(username="root").delete()
    for method, path, body in (
        ("PUT", f"Users/{ann['id']}", {"userName": "ann@example.org", "active": False}),
        ("DELETE", f"Users/{ann['id']}", None),
        ("PUT", f"Groups/{group['id']}", {"displayName": "admins", "members": []}),
        ("DELETE", f"Groups/{group['id']}", None),
    ):
        answer = scim(method, path, body)
        assert (scim.status, "administrator" in answer["detail"]) == (409, True), method
    assert User.objects.get(pk=ann["id"]).is_active


def test_a_deleted_user_is_disabled_and_can_return(scim: Scim) -> None:
    made = scim.user()
    scim("DELETE", f"Users/{made['id']}")
    assert scim.status == 204
    scim("GET", f"Users/{made['id']}")
    assert scim.status == 404
    assert scim("GET", "Users")["totalResults"] == 0
    assert not User.objects.get(pk=made["id"]).is_active
    again = scim.user()
    assert again["id"] == made["id"]
    assert User.objects.get(pk=made["id"]).is_active


@pytest.mark.parametrize(
    ("method", "path", "body", "query", "expected"),
    [
        ("GET", "Users/999999", None, {}, (404, None)),
        ("GET", "Users/999999999999999999999", None, {}, (404, None)),
        ("GET", "Nothing", None, {}, (404, None)),
        ("DELETE", "Users", None, {}, (405, None)),
        ("POST", "Users", {"externalId": "x"}, {}, (400, "invalidValue")),
        ("POST", "Users", {"userName": "a\nb"}, {}, (400, "invalidValue")),
        ("POST", "Users", {"userName": "x" * 300}, {}, (400, "invalidValue")),
        ("POST", "Users", {"userName": "x", "active": "maybe"}, {}, (400, "invalidValue")),
        ("POST", "Users", {"userName": "x", "name": "y"}, {}, (400, "invalidValue")),
        ("POST", "Users", [], {}, (400, "invalidSyntax")),
        ("POST", "Groups", {"displayName": ""}, {}, (400, "invalidValue")),
        (
            "POST",
            "Groups",
            {"displayName": "g", "members": [{"value": "999999"}]},
            {},
            (400, "invalidValue"),
        ),
        ("GET", "Users", None, {"filter": 'userName co "a"'}, (400, "invalidFilter")),
        ("GET", "Users", None, {"filter": "userName eq"}, (400, "invalidFilter")),
        ("GET", "Users", None, {"filter": 'title eq "a"'}, (400, "invalidFilter")),
        ("GET", "Users", None, {"filter": 'userName eq "a\\u0000"'}, (200, None)),
    ],
)
def test_bad_requests_get_scims_errors(
    scim: Scim, method: str, path: str, body: Any, query: dict[str, str], expected: Any
) -> None:
    answer = scim(method, path, body, **query)
    assert (scim.status, answer.get("scimType")) == expected
    if scim.status >= 400:
        assert answer["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
        assert answer["status"] == str(scim.status)
        assert answer["detail"]


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ({"op": "move", "path": "active"}, "invalidSyntax"),
        ({"op": "remove"}, "noTarget"),
        ({"op": "replace", "value": 1}, "invalidValue"),
        ({"op": "replace", "path": "a b", "value": 1}, "invalidPath"),
        ({"op": "replace", "path": 'emails[type ne "x"]', "value": 1}, "invalidFilter"),
        ({"op": "replace", "path": "userName", "value": ""}, "invalidValue"),
        ({"op": "replace", "path": "active", "value": "maybe"}, "invalidValue"),
        ("x", "invalidSyntax"),
    ],
    ids=str,
)
def test_bad_operations_change_nothing(scim: Scim, operation: Any, kind: str) -> None:
    made = scim.user()
    good = {"op": "replace", "path": "name.givenName", "value": "Ann"}
    assert scim.patch(f"Users/{made['id']}", good, operation)["scimType"] == kind
    assert scim.status == 400
    assert User.objects.get(pk=made["id"]).first_name == ""


def test_only_the_token_and_keys_of_administrators_are_accepted(
    scim: Scim, settings: Any, redis_url: str
) -> None:
    root = User.objects.get(username="root")
    _key, text = keys.create(root, scopes=["scim"])
    _key, narrow = keys.create(root, scopes=["chat", "manage"])
    _key, foreign = keys.create(User.objects.create_user("ann"), scopes=["scim"])
    for token, status in (
        (TOKEN, 200),
        (text, 200),
        (narrow, 403),
        (foreign, 403),
        ("wrong", 401),
        ("é" * 40, 401),
    ):
        client = Scim(token.encode().decode("latin-1"))
        client("GET", "Users")
        assert client.status == status, token
    anonymous = Client()
    response = anonymous.get("/scim/v2/Users")
    assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")
    assert response["Content-Type"] == "application/scim+json"
    # A session is not enough.
    anonymous.force_login(root, "django.contrib.auth.backends.ModelBackend")
    assert anonymous.get("/scim/v2/Users").status_code == 401
    settings.ENV = settings.ENV.model_copy(update={"scim_token": ""})
    assert Client().get("/scim/v2/Users", headers={"Authorization": "Bearer "}).status_code == 401


def test_the_service_describes_itself(scim: Scim) -> None:
    assert scim("GET", "ServiceProviderConfig")["patch"] == {"supported": True}
    assert [one["id"] for one in scim("GET", "ResourceTypes")["Resources"]] == ["User", "Group"]
    for one in scim("GET", "Schemas")["Resources"]:
        assert scim("GET", f"Schemas/{one['id']}")["id"] == one["id"]
    scim("GET", "Schemas/urn:none")
    assert scim.status == 404


def test_names_that_usernames_do_not_allow_are_returned_as_they_came(scim: Scim) -> None:
    name = "bob_x.com#EXT#@tenant.onmicrosoft.com"
    made = scim.user(name)
    assert made["userName"] == name
    assert User.objects.get(pk=made["id"]).username == "bob_x.com_EXT_@tenant.onmicrosoft.com"
    assert scim("GET", "Users", filter=f'userName eq "{name}"')["totalResults"] == 1
    assert DirectoryIdentity.objects.get().name == name
