"""Sign-in with the directory, and SCIM, which takes a bearer token and no session."""

from __future__ import annotations

from tests.integration.web.strangers.table import Row, public

FACTS = {
    "directory_user": lambda world: world.owner.pk,
    "directory_group": lambda world: 1,
    "directory_schema": lambda world: "User",
}

_ONE = {"id": "directory_user"}
_GROUP = {"id": "directory_group"}
_SCHEMA = {"id": "directory_schema"}

ROWS: list[Row] = [
    # No provider is configured in the tests.
    public("accounts/oidc/login/", status=404),
    public("accounts/oidc/callback/", status=404),
    public("scim/v2/Users", status=401),
    public("scim/v2/Users", "POST", 401),
    public("scim/v2/Users/<int:id>", status=401, args=_ONE),
    public("scim/v2/Users/<int:id>", "PUT", 401, args=_ONE),
    public("scim/v2/Users/<int:id>", "PATCH", 401, args=_ONE),
    public("scim/v2/Users/<int:id>", "DELETE", 401, args=_ONE),
    public("scim/v2/Groups", status=401),
    public("scim/v2/Groups", "POST", 401),
    public("scim/v2/Groups/<int:id>", status=401, args=_GROUP),
    public("scim/v2/Groups/<int:id>", "PUT", 401, args=_GROUP),
    public("scim/v2/Groups/<int:id>", "PATCH", 401, args=_GROUP),
    public("scim/v2/Groups/<int:id>", "DELETE", 401, args=_GROUP),
    public("scim/v2/ServiceProviderConfig", status=401),
    public("scim/v2/ResourceTypes", status=401),
    public("scim/v2/ResourceTypes/<str:id>", status=401, args=_SCHEMA),
    public("scim/v2/Schemas", status=401),
    public("scim/v2/Schemas/<str:id>", status=401, args=_SCHEMA),
    public("scim/v2/<path:rest>", status=401, args={"rest": "directory_schema"}),
]
