"""Settings of the organization's directory: OpenID Connect, LDAP, SCIM and the periodic check.

They are fields of `env.Environment`. Only their text is checked here; `manage.py doctor` connects.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode

ROLES: Final = ("administrator", "model_manager", "auditor", "user")
# Fields that are secrets; error messages and `manage.py settings` mask them.
SECRETS: Final = frozenset({"oidc_client_secret", "scim_token"})
_LOOPBACK: Final = {"127.0.0.1", "localhost", "::1"}
_SCIM_TOKEN_MIN: Final = 32
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_DN = re.compile(r"\s*[A-Za-z][A-Za-z0-9-]*\s*=[^=].*")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")

Words = Annotated[tuple[str, ...], NoDecode]
# ``name=value`` in the order given; a name may contain ``=``, as DNs do, a value may not.
Pairs = Annotated[tuple[tuple[str, str], ...], NoDecode]

# Attributes of the two kinds of LDAP directory by the field that they fill. ``id`` identifies an
# entry through renames.
LDAP_ATTRIBUTES: Final[dict[str, dict[str, str]]] = {
    "openldap": {
        "username": "uid",
        "email": "mail",
        "first_name": "givenName",
        "last_name": "sn",
        "id": "entryUUID",
    },
    "active_directory": {
        "username": "sAMAccountName",
        "email": "mail",
        "first_name": "givenName",
        "last_name": "sn",
        "id": "objectGUID",
    },
}
# Users who may sign in, by the kind of directory: in Active Directory no disabled accounts.
LDAP_USER_FILTERS: Final[dict[str, str]] = {
    "openldap": "(objectClass=inetOrgPerson)",
    "active_directory": (
        "(&(objectCategory=person)(objectClass=user)"
        "(!(userAccountControl:1.2.840.113556.1.4.803:=2)))"
    ),
}
LDAP_GROUP_FILTERS: Final[dict[str, str]] = {
    "openldap": "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames))",
    "active_directory": "(objectClass=group)",
}


class DirectorySettings(BaseSettings):
    """The fields; their descriptions are the documentation."""

    directory_timeout_seconds: float = Field(
        5,
        gt=0,
        le=60,
        description="Timeout in seconds for each step of a connection to the OpenID Connect "
        "provider or the LDAP server.",
    )
    directory_sync_at: str = Field(
        "02:30",
        description="Time of day (UTC) at which `manage.py people sync` runs by itself when a "
        "directory is configured; empty: never.",
    )
    directory_sync_max_percent: int = Field(
        20,
        ge=1,
        le=100,
        description="Largest share of the directory's users, in percent, that `manage.py people "
        "sync` disables at once without `--force`. One user is always allowed.",
    )
    directory_unseen_days: int = Field(
        0,
        ge=0,
        le=3650,
        description="Days without a sign-in after which `manage.py people sync` disables users of "
        "OpenID Connect, which can't be asked for leavers; 0 never does. Signing in again enables "
        "them.",
    )

    oidc_issuer: str = Field(
        "",
        description="Issuer of the OpenID Connect provider "
        "(https://login.example.org/realms/main), without /.well-known/…. Empty: no such sign-in.",
    )
    oidc_client_id: str = Field(
        "",
        validate_default=True,
        description="Client ID of this site at the OpenID Connect provider.",
    )
    oidc_client_secret: str = Field(
        "",
        description="Client secret at the OpenID Connect provider. Empty: a public client, "
        "protected by PKCE alone.",
    )
    oidc_name: str = Field(
        "SSO",
        min_length=1,
        max_length=40,
        description="Name of the provider on the button of the sign-in page.",
    )
    oidc_scopes: Words = Field(
        ("openid", "profile", "email"),
        description="Scopes to request from the provider, separated by commas; `openid` must be "
        "one of them.",
    )
    oidc_hosts: Words = Field(
        (),
        description="Hosts besides the issuer's that its discovery document may name for tokens, "
        "keys and user information (graph.microsoft.com), separated by commas; `*.` matches any "
        "subdomain.",
    )
    oidc_ca_file: Path | None = Field(
        None,
        description="PEM file with the certificate authorities of the provider, if they are not "
        "those of the system.",
    )
    oidc_username_claim: str = Field(
        "preferred_username",
        min_length=1,
        description="Claim that becomes the username of a new account.",
    )
    oidc_id_claim: str = Field(
        "sub",
        min_length=1,
        description="Claim that identifies a user forever (`sub`; `oid` for Entra ID). An account "
        "that SCIM provisioned with the same externalId is used at sign-in.",
    )
    oidc_groups_claim: str = Field(
        "groups",
        min_length=1,
        description="Claim with the user's groups, a list or one name. Dots lead into objects "
        "(realm_access.roles).",
    )
    oidc_roles: Pairs = Field(
        (),
        description="Roles that groups of the provider give, as group=role, separated by "
        "semicolons (chat-admins=administrator; ml-team=model_manager). Roles: administrator, "
        "model_manager, auditor, user.",
    )
    oidc_allowed: Pairs = Field(
        (),
        description="Claims that allow signing in, as claim=value, separated by semicolons "
        "(groups=chat-users; department=IT); one of them suffices. Empty: all users of the "
        "provider.",
    )
    oidc_create_accounts: bool = Field(
        True, description="Create an account at the first sign-in with the provider."
    )
    oidc_link_accounts: bool = Field(
        False,
        description="Sign in to the existing account with the same e-mail address, if the provider "
        "marks the address as verified. Administrators are never linked this way.",
    )
    oidc_direct: bool = Field(
        False,
        description="Go straight to the provider instead of showing the sign-in page. "
        "`/accounts/login/?local` shows the page.",
    )
    oidc_sign_out: bool = Field(
        False, description="Sign out at the provider too when a user signs out."
    )

    ldap_url: Words = Field(
        (),
        description="Addresses of the LDAP servers (ldaps://ldap.example.org), tried in order, "
        "separated by commas. Empty: no such sign-in. Needs `make setup EXTRAS=ldap`.",
    )
    ldap_kind: Literal["openldap", "active_directory"] = Field(
        "openldap",
        description="Kind of directory: it sets the defaults of attributes, filters and nested "
        "groups.",
    )
    ldap_start_tls: bool = Field(False, description="Encrypt ldap:// connections by StartTLS.")
    ldap_plaintext: bool = Field(
        False,
        description="Allow ldap:// without StartTLS to other machines: passwords then cross the "
        "network unencrypted.",
    )
    ldap_ca_file: Path | None = Field(
        None,
        description="PEM file with the certificate authorities of the LDAP servers, if they are "
        "not those of the system.",
    )
    ldap_bind_dn: str = Field(
        "", description="DN of the account that searches the directory; empty: anonymous."
    )
    ldap_bind_password_file: Path | None = Field(
        None,
        validate_default=True,
        description="File with the password of CHATSITE_LDAP_BIND_DN, readable by this site only.",
    )
    ldap_user_base: str = Field(
        "",
        validate_default=True,
        description="DN below which users are searched (ou=people,dc=example,dc=org).",
    )
    ldap_user_filter: str = Field(
        "",
        description="LDAP filter of the users who may sign in. Empty: (objectClass=inetOrgPerson), "
        "or in Active Directory all accounts that are not disabled.",
    )
    ldap_login_attributes: Words = Field(
        (),
        description="Attributes that the name typed at sign-in may match, separated by commas "
        "(uid,mail). Empty: the attribute of the username.",
    )
    ldap_attributes: Pairs = Field(
        (),
        description="Attributes that differ from the usual ones, as field=attribute, separated by "
        "semicolons (username=cn; email=mail). Fields: username, email, first_name, last_name, id.",
    )
    ldap_group_base: str = Field(
        "", description="DN below which groups are searched; empty: groups are not used."
    )
    ldap_group_filter: str = Field(
        "",
        description="LDAP filter of groups. Empty: groupOfNames and groupOfUniqueNames, or `group` "
        "in Active Directory.",
    )
    ldap_group_members: str = Field(
        "member",
        description="Attribute of a group that names its members (member, uniqueMember, "
        "memberUid).",
    )
    ldap_nested_groups: bool = Field(
        True, description="Members of a group in a group belong to the outer group too."
    )
    ldap_roles: Pairs = Field(
        (),
        description="Roles that groups give, as group=role, separated by semicolons; a group is "
        "named by its cn or DN. Roles: administrator, model_manager, auditor, user.",
    )
    ldap_allowed_groups: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        validate_default=True,
        description="Groups (cn or DN) whose members may sign in, separated by semicolons; empty: "
        "all users that are found.",
    )
    ldap_create_accounts: bool = Field(
        True, description="Create an account at the first sign-in of a user of the directory."
    )
    ldap_link_accounts: bool = Field(
        False,
        description="Sign in to the existing account with the same username. Administrators are "
        "never linked this way.",
    )

    scim_token: str = Field(
        "",
        description="Bearer token for SCIM 2.0 at `/scim/v2/`, of at least 32 characters. API keys "
        "of administrators with the scope `scim` work too.",
    )
    scim_roles: Pairs = Field(
        (),
        description="Roles that groups provisioned by SCIM give, as group=role, separated by "
        "semicolons. Roles: administrator, model_manager, auditor, user.",
    )
    scim_link_accounts: bool = Field(
        False,
        description="Let SCIM take over existing local accounts. Administrators are never taken "
        "over.",
    )

    @field_validator(
        *("oidc_scopes", "oidc_hosts", "ldap_url", "ldap_login_attributes"), mode="before"
    )
    @classmethod
    def _split_words(cls, value: Any) -> Any:
        return _split(value, ",")

    @field_validator("ldap_allowed_groups", mode="before")
    @classmethod
    def _split_groups(cls, value: Any) -> Any:
        return _split(value, ";")

    @field_validator(
        *("oidc_roles", "oidc_allowed", "ldap_roles", "ldap_attributes", "scim_roles"),
        mode="before",
    )
    @classmethod
    def _split_pairs(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = []
        for entry in _split(value, ";"):
            name, separator, text = entry.rpartition("=")
            if not separator or not name.strip() or not text.strip():
                raise ValueError(f"{entry!r} must look like name=value")
            found.append((name.strip(), text.strip()))
        return tuple(found)

    @field_validator("oidc_roles", "ldap_roles", "scim_roles")
    @classmethod
    def _of_roles(cls, value: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        for group, role in value:
            if role not in ROLES:
                raise ValueError(f"{group}={role}: the role must be one of {', '.join(ROLES)}")
        return value

    @field_validator("oidc_allowed")
    @classmethod
    def _of_claims(cls, value: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        for claim, text in value:
            if "=" in claim:
                raise ValueError(f"{claim}={text}: must look like claim=value")
        return value

    @field_validator("directory_sync_at")
    @classmethod
    def _time_of_day(cls, value: str) -> str:
        if value.strip() and not _TIME.fullmatch(value.strip()):
            raise ValueError(f"{value!r} must look like 02:30")
        return value.strip()

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer(cls, value: str) -> str:
        value = value.strip()
        if not value:
            return value
        parts = _url(value, {"https", "http"}, "https://login.example.org/realms/main")
        if parts.query or parts.fragment or parts.username is not None:
            raise ValueError(f"{value!r} must not have a query, a fragment or a password")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise ValueError(f"{value!r} must begin with https://; http is for tests on loopback")
        if "/.well-known/" in value:
            raise ValueError(f"{value!r}: leave out /.well-known/…")
        return value

    @field_validator("oidc_client_id")
    @classmethod
    def _client_of_issuer(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("oidc_issuer") and not value.strip():
            raise ValueError("is required with CHATSITE_OIDC_ISSUER")
        return value.strip()

    @field_validator("oidc_scopes")
    @classmethod
    def _with_openid(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        value = tuple(word for entry in value for word in entry.split())
        if "openid" not in value:
            raise ValueError("must contain openid")
        return value

    @field_validator("oidc_hosts")
    @classmethod
    def _host_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not re.fullmatch(r"(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", host):
                raise ValueError(f"{host!r} must be a host name, without scheme, port or path")
        return value

    @field_validator("oidc_ca_file", "ldap_ca_file", "ldap_bind_password_file")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        path = value.expanduser().absolute()
        if not path.is_file() or not os.access(path, os.R_OK):
            raise ValueError(f"{path} is not a file that can be read")
        return path

    @field_validator("ldap_bind_password_file")
    @classmethod
    def _password_of_bind(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if info.data.get("ldap_bind_dn") and value is None:
            raise ValueError("is required with CHATSITE_LDAP_BIND_DN")
        if value is not None and not value.read_text(encoding="utf-8", errors="replace").strip():
            raise ValueError(f"{value} is empty: an empty password would bind anonymously")
        return value

    @field_validator("ldap_url")
    @classmethod
    def _servers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for server in value:
            parts = _url(server, {"ldap", "ldaps"}, "ldaps://ldap.example.org")
            if parts.path.strip("/") or parts.query or parts.fragment:
                raise ValueError(f"{server!r}: leave out what follows the host and port")
        return value

    @field_validator("ldap_start_tls")
    @classmethod
    def _not_twice(cls, value: bool, info: ValidationInfo) -> bool:
        servers = info.data.get("ldap_url") or ()
        if value and any(server.startswith("ldaps://") for server in servers):
            raise ValueError("is for ldap://; ldaps:// is encrypted already")
        return value

    @field_validator("ldap_user_base")
    @classmethod
    def _base_of_users(cls, value: str, info: ValidationInfo) -> str:
        servers = info.data.get("ldap_url") or ()
        if servers and not value.strip():
            raise ValueError("is required with CHATSITE_LDAP_URL")
        open_servers = [
            server
            for server in servers
            if server.startswith("ldap://") and urlsplit(server).hostname not in _LOOPBACK
        ]
        encrypted = info.data.get("ldap_start_tls") or info.data.get("ldap_plaintext")
        if open_servers and not encrypted:
            raise ValueError(
                f"{open_servers[0]} would send passwords unencrypted: use ldaps://, set "
                "CHATSITE_LDAP_START_TLS=1, or allow it by CHATSITE_LDAP_PLAINTEXT=1"
            )
        return _dn(value)

    @field_validator("ldap_group_base", "ldap_bind_dn")
    @classmethod
    def _is_dn(cls, value: str, info: ValidationInfo) -> str:
        # Active Directory binds by user principal name too.
        return value.strip() if info.field_name == "ldap_bind_dn" and "@" in value else _dn(value)

    @field_validator("ldap_user_filter", "ldap_group_filter")
    @classmethod
    def _balanced(cls, value: str) -> str:
        value = value.strip()
        if value and not _is_filter(value):
            raise ValueError(f"{value!r} must be one filter in balanced parentheses")
        return value

    @field_validator("ldap_group_members")
    @classmethod
    def _attribute(cls, value: str) -> str:
        if not _ATTRIBUTE.fullmatch(value):
            raise ValueError(f"{value!r} must be the name of an attribute")
        return value

    @field_validator("ldap_login_attributes")
    @classmethod
    def _attributes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            cls._attribute(name)
        return value

    @field_validator("ldap_attributes")
    @classmethod
    def _fields(cls, value: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        known = LDAP_ATTRIBUTES["openldap"]
        for field, attribute in value:
            if field not in known:
                raise ValueError(f"{field!r} must be one of {', '.join(known)}")
            cls._attribute(attribute)
        return value

    @field_validator("ldap_allowed_groups")
    @classmethod
    def _groups_are_searched(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        uses = value or info.data.get("ldap_roles")
        if uses and not info.data.get("ldap_group_base"):
            raise ValueError("groups need CHATSITE_LDAP_GROUP_BASE, where they are searched")
        return value

    @field_validator("scim_token")
    @classmethod
    def _long(cls, value: str) -> str:
        value = value.strip()
        if value and len(value) < _SCIM_TOKEN_MIN:
            raise ValueError(f"must have at least {_SCIM_TOKEN_MIN} characters")
        return value

    @property
    def ldap_fields(self) -> dict[str, str]:
        """Return the LDAP attribute of each field."""
        return {**LDAP_ATTRIBUTES[self.ldap_kind], **dict(self.ldap_attributes)}

    @property
    def has_directory(self) -> bool:
        """Whether `manage.py people sync` has anything to ask or to judge."""
        return bool(self.ldap_url) or bool(self.oidc_issuer and self.directory_unseen_days)


def _split(value: Any, separator: str) -> Any:
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(separator) if word.strip())
    return value


def _url(value: str, schemes: set[str], example: str) -> Any:
    try:
        parts = urlsplit(value)
        valid = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError(f"{value!r} must look like {example}")
    return parts


def _dn(value: str) -> str:
    value = value.strip()
    if value and not _DN.fullmatch(value):
        raise ValueError(f"{value!r} must be a DN such as ou=people,dc=example,dc=org")
    return value


def _is_filter(text: str) -> bool:
    """Return whether ``text`` is one expression in balanced parentheses."""
    depth = 0
    for place, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth < 1 and place < len(text) - 1:
            return False
    return depth == 0 and text.startswith("(")
