"""Sign-in with LDAP and Active Directory, over django-auth-ldap. Needs the extra `ldap`.

django-auth-ldap searches the user, checks the password by a bind, and finds groups. Added here: the
account is found or created by `accounts.admit`, a server that does not answer is an error of its
own instead of a wrong password, and all users are listed for `sync`. Values go into filters
escaped; referrals are off.
"""

from __future__ import annotations

import base64
import logging
import socket
import ssl
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

import ldap
from django.conf import settings
from django.contrib.auth.backends import BaseBackend
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _
from django_auth_ldap.backend import LDAPBackend, ldap_error
from django_auth_ldap.config import (
    LDAPSearch,
    LDAPSettings,
    MemberDNGroupType,
    NestedMemberDNGroupType,
    PosixGroupType,
)
from ldap.controls.libldap import SimplePagedResultsControl
from ldap.filter import escape_filter_chars

from chatsite.accounts.directory import accounts
from chatsite.accounts.directory.person import (
    DirectoryGroup,
    DirectoryUnavailable,
    Person,
    SignInRefused,
)
from chatsite.accounts.models import DirectoryIdentity, User
from chatsite.audit.record import record
from chatsite.directory_settings import LDAP_GROUP_FILTERS, LDAP_USER_FILTERS

logger = logging.getLogger(__name__)

# Active Directory's LDAP_MATCHING_RULE_IN_CHAIN: members of groups in groups, in one search.
IN_CHAIN: Final = "1.2.840.113556.1.4.1941"
_PAGE_SIZE: Final = 500
_PASSWORD_CHARS: Final = 4096
# What says nothing about the user: the server does not answer, or our own bind or search is wrong.
_UNAVAILABLE: Final = (
    *(ldap.SERVER_DOWN, ldap.CONNECT_ERROR, ldap.TIMEOUT, ldap.TIMELIMIT_EXCEEDED),
    *(ldap.UNAVAILABLE, ldap.BUSY, ldap.LOCAL_ERROR, ldap.PROTOCOL_ERROR, ldap.OPERATIONS_ERROR),
    *(ldap.STRONG_AUTH_REQUIRED, ldap.CONFIDENTIALITY_REQUIRED),
)


class InChainGroupType(MemberDNGroupType):  # type: ignore[misc]
    """Nested groups of Active Directory, resolved by the server."""

    def user_groups(self, ldap_user: Any, group_search: LDAPSearch) -> Any:
        term = f"({self.member_attr}:{IN_CHAIN}:={escape_filter_chars(ldap_user.dn)})"
        search = group_search.search_with_additional_term_string(_literal(term))
        return search.execute(ldap_user.connection)


class NestedGroupType(NestedMemberDNGroupType):  # type: ignore[misc]
    """Nested groups, searched level by level."""

    def find_groups_with_any_member(
        self, member_dn_set: set[str], group_search: LDAPSearch, connection: Any
    ) -> Any:
        """Search for groups with any of these members; `%` in a DN is not a placeholder."""
        terms = "".join(
            f"({self.member_attr}={escape_filter_chars(dn)})" for dn in sorted(member_dn_set)
        )
        search = group_search.search_with_additional_term_string(_literal(f"(|{terms})"))
        return search.execute(connection)


class Backend(LDAPBackend, BaseBackend):  # type: ignore[misc]
    """The authentication backend. Its settings come from `CHATSITE_LDAP_*`.

    Django makes one for each sign-in. `BaseBackend` adds the asynchronous methods.
    """

    request: HttpRequest | None = None

    @cached_property
    def settings(self) -> LDAPSettings:
        return LDAPSettings("CHATSITE_LDAP_", options())

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> User | None:
        """Return the account of a user whose password the directory accepts; else None.

        A name that belongs to a local account is not sent to the directory. Raises
        `ValidationError`, which the sign-in form shows, if the directory does not answer or the
        user may not sign in here.
        """
        if not username or not password or "\0" in username + password:
            return None
        if len(password) > _PASSWORD_CHARS or not _may_be_of_directory(username):
            return None
        try:
            self.request = request
            found: User | None = super().authenticate(request, username=username, password=password)
        except DirectoryUnavailable as error:
            raise ValidationError(str(error), code=error.code) from error
        except SignInRefused as error:
            record(
                "auth.login_failed",
                request=request,
                outcome="denied",
                target=("user", "", username),
                method="ldap",
                reason=error.code,
            )
            raise ValidationError(str(error), code=error.code) from error
        return found

    def authenticate_ldap_user(self, ldap_user: Any, password: str) -> User | None:
        """Check the password, then find or create the account."""
        found = ldap_user.authenticate(password)
        if found is None:
            return None
        person = person_of(ldap_user.dn, ldap_user.attrs, _groups(self, ldap_user))
        user = accounts.admit(person, rules(), request=self.request)
        if not user.is_active:
            raise SignInRefused(_("This account is disabled. Ask an administrator."))
        return user

    def get_or_build_user(self, username: str, ldap_user: Any) -> tuple[Any, bool]:
        """Return a stand-in: the account is chosen after all checks, by `accounts.admit`."""
        return _NotYetKnown(username), False

    def get_user(self, user_id: int) -> User | None:
        """Return the active user of a session; the directory is not asked."""
        return User.objects.filter(pk=user_id, is_active=True).first()

    async def aget_user(self, user_id: int) -> User | None:
        """Return the active user of a session; asynchronous views call this."""
        return await User.objects.filter(pk=user_id, is_active=True).afirst()

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        return set()

    def get_group_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        return set()


@dataclass
class _NotYetKnown:
    """What django-auth-ldap fills in as the user before the account is known."""

    username: str
    ldap_user: Any = None
    ldap_username: str = ""

    def save(self) -> None:
        """Nothing to save."""


def _on_error(sender: type, context: str, exception: Exception, **kwargs: Any) -> None:
    """Turn an error of the server into `DirectoryUnavailable`.

    django-auth-ldap would take it for a wrong password.
    """
    searching = context != "authenticate"
    if searching or isinstance(exception, (*_UNAVAILABLE, ldap.INVALID_CREDENTIALS)):
        raise unavailable(exception)


ldap_error.connect(_on_error, dispatch_uid="chatsite.accounts.directory.ldap")


def unavailable(error: Exception) -> DirectoryUnavailable:
    logger.warning("LDAP server can't be used", extra={"error": error})
    return DirectoryUnavailable()


def options() -> dict[str, Any]:
    """Return django-auth-ldap's settings."""
    env = settings.ENV
    attributes = env.ldap_fields
    names = env.ldap_login_attributes or (attributes["username"],)
    typed = "".join(f"({name}=%(user)s)" for name in names)
    return {
        **LDAPSettings.defaults,
        "SERVER_URI": lambda _request: servers(),
        "BIND_DN": env.ldap_bind_dn,
        "BIND_PASSWORD": bind_password(),
        "START_TLS": env.ldap_start_tls,
        "CONNECTION_OPTIONS": connection_options(),
        "USER_SEARCH": LDAPSearch(
            env.ldap_user_base,
            ldap.SCOPE_SUBTREE,
            f"(&{_literal(user_filter())}(|{typed}))",
            user_attributes(),
        ),
        "USER_ATTRLIST": user_attributes(),
        "GROUP_SEARCH": group_search() if env.ldap_group_base else None,
        "GROUP_TYPE": group_type() if env.ldap_group_base else None,
        "ALWAYS_UPDATE_USER": False,
    }


def servers() -> str:
    """Return the addresses to connect to, as libldap takes them. Raises `DirectoryUnavailable`.

    libldap bounds connecting and each answer, but not the TLS handshake of ldaps://: a server that
    is silent there would block forever. So such servers are tried by a handshake of our own first.
    """
    found, reason = [], None
    for url in settings.ENV.ldap_url:
        try:
            if url.startswith("ldaps://"):
                _shake_hands(url)
            found.append(url)
        except OSError as error:
            reason = error
    if not found:
        raise unavailable(reason or ValueError("no server"))
    return " ".join(found)


def _shake_hands(url: str) -> None:
    """Complete a TLS handshake with the server. Raises `OSError`."""
    parts, seconds = urlsplit(url), settings.ENV.directory_timeout_seconds
    context = ssl.create_default_context(cafile=settings.ENV.ldap_ca_file)
    with (
        socket.create_connection((parts.hostname, parts.port or 636), seconds) as plain,
        context.wrap_socket(plain, server_hostname=parts.hostname),
    ):
        pass


def user_attributes() -> list[str]:
    """Return the attributes to ask for: an ID may be sent only if it is asked for by name."""
    return [*dict.fromkeys([*settings.ENV.ldap_fields.values(), "uid", "gidNumber"])]


def connection_options() -> dict[int, Any]:
    """Return options of a connection, in the order in which they are set."""
    env = settings.ENV
    found: dict[int, Any] = {
        ldap.OPT_PROTOCOL_VERSION: 3,
        ldap.OPT_REFERRALS: 0,
        ldap.OPT_NETWORK_TIMEOUT: env.directory_timeout_seconds,
        ldap.OPT_TIMEOUT: env.directory_timeout_seconds,
        ldap.OPT_X_TLS_REQUIRE_CERT: ldap.OPT_X_TLS_DEMAND,
    }
    if env.ldap_ca_file:
        found[ldap.OPT_X_TLS_CACERTFILE] = str(env.ldap_ca_file)
    # Applies the options above; must be the last.
    found[ldap.OPT_X_TLS_NEWCTX] = 0
    return found


def bind_password() -> str:
    """Return the password of the searching account, read again each time: it may be rotated."""
    path = settings.ENV.ldap_bind_password_file
    return path.read_text(encoding="utf-8").strip("\r\n") if path else ""


def user_filter() -> str:
    env = settings.ENV
    return env.ldap_user_filter or LDAP_USER_FILTERS[env.ldap_kind]


def group_search() -> LDAPSearch:
    env = settings.ENV
    text = env.ldap_group_filter or LDAP_GROUP_FILTERS[env.ldap_kind]
    if not env.ldap_group_filter and env.ldap_group_members == "memberUid":
        text = "(objectClass=posixGroup)"
    return LDAPSearch(
        env.ldap_group_base,
        ldap.SCOPE_SUBTREE,
        _literal(text),
        ["cn", "gidNumber", env.ldap_fields["id"], env.ldap_group_members],
    )


def group_type() -> Any:
    env = settings.ENV
    if env.ldap_group_members == "memberUid":
        return PosixGroupType()
    if not env.ldap_nested_groups:
        return MemberDNGroupType(env.ldap_group_members)
    if env.ldap_kind == "active_directory":
        return InChainGroupType(env.ldap_group_members)
    return NestedGroupType(env.ldap_group_members)


def rules() -> accounts.Rules:
    env = settings.ENV
    return accounts.Rules(
        create=env.ldap_create_accounts, link=env.ldap_link_accounts, role_map=env.ldap_roles
    )


def _literal(text: str) -> str:
    """Escape ``text`` for `LDAPSearch`, which formats its filter with ``%``."""
    return text.replace("%", "%%")


def _may_be_of_directory(typed: str) -> bool:
    """Return whether a name typed at sign-in may belong to a user of the directory.

    Local accounts sign in locally: their password attempts are not sent to the directory.
    """
    held = User.objects.filter(username__iexact=typed.strip()).first()
    if held is None:
        return True
    if held.identities.filter(source=DirectoryIdentity.Source.LDAP).exists():
        return True
    return bool(settings.ENV.ldap_link_accounts) and not held.is_superuser


def _groups(backend: Backend, ldap_user: Any) -> tuple[DirectoryGroup, ...] | None:
    """Return the user's groups; None if groups are not searched. Raises `SignInRefused`."""
    search, kind = backend.settings.GROUP_SEARCH, backend.settings.GROUP_TYPE
    if search is None:
        return None
    try:
        found = groups_of(kind.user_groups(ldap_user, search))
    except ldap.LDAPError as error:
        raise unavailable(error) from error
    if not may_sign_in(found):
        raise SignInRefused
    return found


def groups_of(entries: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[DirectoryGroup, ...]:
    """Return groups from entries of a search."""
    id_attribute = settings.ENV.ldap_fields["id"]
    found = []
    for dn, attributes in entries:
        name = _first(attributes, "cn") or dn
        external_id = identifier(attributes, id_attribute) or dn.lower()
        found.append(DirectoryGroup(external_id[:240], name[:150], (dn,)))
    return tuple(found)


def may_sign_in(groups: Sequence[DirectoryGroup]) -> bool:
    allowed = settings.ENV.ldap_allowed_groups
    return not allowed or any(one.matches(name) for one in groups for name in allowed)


def person_of(
    dn: str, attributes: Mapping[str, Any], groups: tuple[DirectoryGroup, ...] | None
) -> Person:
    """Return the user of an entry. Raises `SignInRefused` if it has no username."""
    fields = settings.ENV.ldap_fields
    username = _first(attributes, fields["username"])
    if not username:
        logger.warning("LDAP entry has no username", extra={"attribute": fields["username"]})
        raise SignInRefused
    return Person(
        source=DirectoryIdentity.Source.LDAP,
        external_id=(identifier(attributes, fields["id"]) or dn.lower())[:255],
        username=username,
        email=_first(attributes, fields["email"]),
        email_verified=True,
        first_name=_first(attributes, fields["first_name"]),
        last_name=_first(attributes, fields["last_name"]),
        groups=groups,
    )


def _first(attributes: Mapping[str, Any], name: str) -> str:
    """Return the first value of an attribute as text; names ignore case."""
    values = _values(attributes, name)
    if not values:
        return ""
    value = values[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def identifier(attributes: Mapping[str, Any], name: str) -> str:
    """Return a text for the entry's permanent ID, which is binary in Active Directory."""
    values = _values(attributes, name)
    if not values:
        return ""
    value = values[0]
    if name.lower() == "objectguid":
        # django-auth-ldap decodes bytes that happen to be UTF-8.
        raw = value if isinstance(value, bytes) else str(value).encode()
        return str(uuid.UUID(bytes_le=raw)) if len(raw) == 16 else base64.b64encode(raw).decode()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _values(attributes: Mapping[str, Any], name: str) -> list[Any]:
    for key, values in attributes.items():
        if key.lower() == name.lower():
            return list(values)
    return []


# The whole directory, for `sync` and `doctor`.


@contextmanager
def connection() -> Iterator[Any]:
    """Yield a connection bound as the searching account. Raises `DirectoryUnavailable`."""
    link = None
    try:
        link = ldap.initialize(servers(), bytes_mode=False)
        for option, value in connection_options().items():
            link.set_option(option, value)
        if settings.ENV.ldap_start_tls:
            link.start_tls_s()
        link.simple_bind_s(settings.ENV.ldap_bind_dn, bind_password())
        yield link
    except ldap.LDAPError as error:
        raise unavailable(error) from error
    finally:
        if link is not None:
            try:
                link.unbind_ext_s()
            except ldap.LDAPError:
                pass  # it is gone already


class _Bound:
    """The user of a listing, as the group types of django-auth-ldap expect one."""

    def __init__(self, dn: str, attrs: Mapping[str, Any], link: Any) -> None:
        self.dn, self.attrs, self.connection = dn, attrs, link


def everyone(known: Collection[str]) -> dict[str, Person]:
    """Return those of the ``known`` external IDs who may sign in, with their groups.

    Raises `DirectoryUnavailable`: a part of the users is never taken for all.
    """
    env = settings.ENV
    found: dict[str, Person] = {}
    with connection() as link:
        entries = list(_pages(link, env.ldap_user_base, user_filter(), user_attributes()))
        search, kind = (group_search(), group_type()) if env.ldap_group_base else (None, None)
        for dn, attributes in entries:
            try:
                person = person_of(dn, attributes, None)
            except SignInRefused:
                continue
            if person.external_id not in known:
                continue
            if search is not None and kind is not None:
                bound = _Bound(dn, _texts(attributes), link)
                groups = groups_of(kind.user_groups(bound, search))
                if not may_sign_in(groups):
                    continue
                person = replace(person, groups=groups)
            found[person.external_id] = person
    return found


def counts() -> tuple[int, int]:
    """Return how many users and groups are found. Raises `DirectoryUnavailable`."""
    env = settings.ENV
    with connection() as link:
        users = sum(1 for _ in _pages(link, env.ldap_user_base, user_filter(), ["1.1"]))
        groups = 0
        if env.ldap_group_base:
            text = group_search().filterstr.replace("%%", "%")
            groups = sum(1 for _ in _pages(link, env.ldap_group_base, text, ["1.1"]))
    return users, groups


def _texts(attributes: Mapping[str, Sequence[bytes]]) -> dict[str, list[str]]:
    return {
        name: [value.decode("utf-8", "replace") for value in values]
        for name, values in attributes.items()
    }


def _pages(
    link: Any, base: str, filter_text: str, attributes: Sequence[str]
) -> Iterator[tuple[str, dict[str, list[bytes]]]]:
    """Yield all entries of a search, page by page: servers bound the size of one result."""
    control = SimplePagedResultsControl(criticality=False, size=_PAGE_SIZE, cookie="")
    while True:
        message = link.search_ext(
            base, ldap.SCOPE_SUBTREE, filter_text, list(attributes), serverctrls=[control]
        )
        _kind, entries, _id, controls = link.result3(message)
        for dn, found in entries:
            if dn is not None:  # a referral
                yield dn, found
        cookies = [
            one.cookie for one in controls if one.controlType == control.controlType and one.cookie
        ]
        if not cookies:
            return
        control.cookie = cookies[0]
