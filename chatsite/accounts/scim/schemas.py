"""What the service supports, for clients that ask: RFC 7643, sections 5 to 7."""

from __future__ import annotations

from typing import Any, Final

from chatsite.accounts.scim.documents import GROUP, USER

COUNT_MOST: Final = 1000

_CORE: Final = "urn:ietf:params:scim:schemas:core:2.0"

SERVICE: Final[dict[str, Any]] = {
    "schemas": [f"{_CORE}:ServiceProviderConfig"],
    "patch": {"supported": True},
    "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
    "filter": {"supported": True, "maxResults": COUNT_MOST},
    "changePassword": {"supported": False},
    "sort": {"supported": False},
    "etag": {"supported": False},
    "authenticationSchemes": [
        {
            "type": "oauthbearertoken",
            "name": "Bearer token",
            "description": "The token of CHATSITE_SCIM_TOKEN, or an API key with the scope scim.",
            "primary": True,
        }
    ],
    "meta": {"resourceType": "ServiceProviderConfig"},
}

RESOURCE_TYPES: Final[list[dict[str, Any]]] = [
    {
        "schemas": [f"{_CORE}:ResourceType"],
        "id": name,
        "name": name,
        "endpoint": f"/{name}s",
        "schema": schema,
        "meta": {"resourceType": "ResourceType"},
    }
    for name, schema in (("User", USER), ("Group", GROUP))
]


def _attribute(
    name: str,
    kind: str = "string",
    *,
    required: bool = False,
    many: bool = False,
    mutability: str = "readWrite",
    uniqueness: str = "none",
    sub: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "type": kind,
        "multiValued": many,
        "required": required,
        "caseExact": False,
        "mutability": mutability,
        "returned": "default",
        "uniqueness": uniqueness,
    }
    return found | ({"subAttributes": sub} if sub else {})


SCHEMAS: Final[list[dict[str, Any]]] = [
    {
        "schemas": [f"{_CORE}:Schema"],
        "id": USER,
        "name": "User",
        "attributes": [
            _attribute("userName", required=True, uniqueness="server"),
            _attribute("externalId"),
            _attribute(
                "name",
                "complex",
                sub=[
                    _attribute("givenName"),
                    _attribute("familyName"),
                    _attribute("formatted", mutability="readOnly"),
                ],
            ),
            _attribute("displayName", mutability="readOnly"),
            _attribute("active", "boolean"),
            _attribute(
                "emails",
                "complex",
                many=True,
                sub=[
                    _attribute("value"),
                    _attribute("type"),
                    _attribute("primary", "boolean"),
                ],
            ),
            _attribute(
                "groups",
                "complex",
                many=True,
                mutability="readOnly",
                sub=[_attribute("value"), _attribute("display")],
            ),
        ],
        "meta": {"resourceType": "Schema"},
    },
    {
        "schemas": [f"{_CORE}:Schema"],
        "id": GROUP,
        "name": "Group",
        "attributes": [
            _attribute("displayName", required=True, uniqueness="server"),
            _attribute("externalId"),
            _attribute(
                "members",
                "complex",
                many=True,
                sub=[_attribute("value"), _attribute("display"), _attribute("type")],
            ),
        ],
        "meta": {"resourceType": "Schema"},
    },
]
