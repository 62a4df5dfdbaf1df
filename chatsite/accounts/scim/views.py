"""The endpoints of SCIM.

A request is authenticated by its bearer token alone; session cookies are ignored.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final

import msgspec
from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import RequestDataTooBig
from django.db import IntegrityError
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from chatsite import json_input
from chatsite.accounts import keys, roles
from chatsite.accounts.directory.groups import base_name
from chatsite.accounts.models import Scope, User
from chatsite.accounts.scim import changes, documents, patch, schemas
from chatsite.accounts.scim.errors import ScimError, not_found
from chatsite.accounts.scim.query import Equals, parse_filter
from chatsite.audit.record import record
from chatsite.audit.repeats import Repeats
from chatsite.errors import ChatsiteError

Handler = Callable[..., HttpResponse]

_CONTENT_TYPE: Final = "application/scim+json"
_COUNT: Final = 100
_DECODER: Final = msgspec.json.Decoder(dict[str, Any])
_refused: Final = Repeats()


def endpoint(**methods: Handler) -> Handler:
    """Return a view of handlers by their HTTP methods, in lower case.

    Handlers get the request, the caller (a user, or "SCIM") and the arguments of the route.
    """

    @csrf_exempt
    @never_cache
    def view(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        try:
            caller = _caller(request)
            handler = methods.get(str(request.method).lower())
            if handler is None:
                raise ScimError(f"{request.method} is not supported here.", status=405)
            return handler(request, caller, **kwargs)
        except ScimError as error:
            return _error(error)
        except RequestDataTooBig:
            return _error(ScimError("The request is too large.", status=413, kind="tooMany"))
        except IntegrityError:
            return _error(ScimError("It exists already.", status=409, kind="uniqueness"))
        except roles.LastAdministrator as error:
            return _error(ScimError(str(error), status=409, kind="mutability"))

    return wraps(endpoint)(view)


def _caller(request: HttpRequest) -> User | str:
    """Return who may use SCIM with this request. Raises `ScimError` (401 or 403)."""
    kind, _separator, token = request.headers.get("Authorization", "").partition(" ")
    token = token.strip()
    if kind.lower() == "bearer" and token:
        expected = settings.ENV.scim_token
        if expected and hmac.compare_digest(token.encode(), expected.encode()):
            return "SCIM"
        try:
            user = keys.caller(token, Scope.SCIM).user
        except ChatsiteError as error:
            raise _refusal(request, str(error), error.status) from error
        if not user.is_superuser:
            raise _refusal(request, "SCIM needs a key of an administrator.", 403)
        return user
    raise _refusal(request, "SCIM needs a bearer token.", 401)


def _refusal(request: HttpRequest, detail: str, status: int) -> ScimError:
    omitted = _refused.take(request.META.get("REMOTE_ADDR", ""))
    if omitted is not None:
        record(
            "scim.refused",
            request=request,
            via="scim",
            outcome="denied",
            status=status,
            omitted=omitted,
        )
    return ScimError(detail, status=status)


def _answer(document: Any, status: int = 200, **headers: str) -> HttpResponse:
    return HttpResponse(
        msgspec.json.encode(document), content_type=_CONTENT_TYPE, status=status, headers=headers
    )


def _error(error: ScimError) -> HttpResponse:
    document = {"schemas": [documents.ERROR], "status": str(error.status), "detail": error.detail}
    if error.kind:
        document["scimType"] = error.kind
    response = _answer(document, error.status)
    if error.status == 401:
        response["WWW-Authenticate"] = "Bearer"
    return response


def _body(request: HttpRequest) -> dict[str, Any]:
    try:
        return json_input.decode(request.body, _DECODER)
    except json_input.BadJson as error:
        raise ScimError(f"The body is not valid: {error}", kind="invalidSyntax") from error


def _list(
    request: HttpRequest, found: QuerySet[Any], document: Callable[[Any], dict[str, Any]]
) -> HttpResponse:
    start = max(1, _number(request, "startIndex", 1))
    count = min(max(0, _number(request, "count", _COUNT)), schemas.COUNT_MOST)
    page = list(found[start - 1 : start - 1 + count]) if count else []
    return _answer(
        {
            "schemas": [documents.LIST],
            "totalResults": found.count(),
            "startIndex": start,
            "itemsPerPage": len(page),
            "Resources": [_selected(request, document(one)) for one in page],
        }
    )


def _number(request: HttpRequest, name: str, default: int) -> int:
    text = request.GET.get(name)
    if text is None:
        return default
    try:
        return min(int(text[:10]), 1_000_000_000)
    except ValueError:
        raise ScimError(f"{name} must be a number.", kind="invalidValue") from None


def _selected(request: HttpRequest, document: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that the client wants; ``id`` and ``schemas`` always."""
    wanted, unwanted = (
        {name.strip().lower() for name in request.GET.get(parameter, "").split(",") if name.strip()}
        for parameter in ("attributes", "excludedAttributes")
    )
    return {
        name: value
        for name, value in document.items()
        if value is not None
        and (
            name in {"id", "schemas"}
            or ((not wanted or name.lower() in wanted) and name.lower() not in unwanted)
        )
    }


# Users.


def _list_users(request: HttpRequest, caller: User | str) -> HttpResponse:
    found = documents.users()
    if text := request.GET.get("filter", "").strip():
        found = found.filter(_users_where(parse_filter(text)))
    return _list(request, found, documents.user_document)


def _users_where(condition: Equals) -> Q:
    value = str(condition.value)
    own = Q(identities__source=documents.SOURCE)
    if "\0" in value:
        return Q(pk=None)
    match condition.attribute:
        case "username":
            # A user without an identity of SCIM goes by the site's name.
            return Q(username__iexact=value) | (own & Q(identities__name__iexact=value))
        case "externalid":
            return own & Q(identities__external_id=value)
        case "id":
            return Q(pk=int(value)) if value.isdecimal() and len(value) < 19 else Q(pk=None)
        case "emails" | "emails.value":
            return Q(email__iexact=value)
        case "active":
            return Q(is_active=value.lower() == "true")
    raise ScimError(
        f"Filtering by {condition.attribute} is not supported. Use userName, externalId, id, "
        "emails.value or active.",
        kind="invalidFilter",
    )


def _create_user(request: HttpRequest, caller: User | str) -> HttpResponse:
    user = changes.create_user(documents.user_fields(_body(request)))
    return _changed(request, caller, "scim.user_created", user, status=201)


def _user(id: int) -> User:
    found = documents.users().filter(pk=id).first()
    if found is None:
        raise not_found("User", str(id))
    return found


def _get_user(request: HttpRequest, caller: User | str, id: int) -> HttpResponse:
    return _answer(_selected(request, documents.user_document(_user(id))))


def _put_user(request: HttpRequest, caller: User | str, id: int) -> HttpResponse:
    user = changes.change_user(_user(id), documents.user_fields(_body(request)))
    return _changed(request, caller, "scim.user_changed", user)


def _patch_user(request: HttpRequest, caller: User | str, id: int) -> HttpResponse:
    user = _user(id)
    after = patch.apply(documents.user_document(user), _body(request))
    user = changes.change_user(user, documents.user_fields(after))
    return _changed(request, caller, "scim.user_changed", user)


def _delete_user(request: HttpRequest, caller: User | str, id: int) -> HttpResponse:
    user = _user(id)
    changes.delete_user(user)
    _record(request, caller, "scim.user_deleted", ("user", str(user.pk), user.get_username()))
    return HttpResponse(status=204)


def _changed(
    request: HttpRequest, caller: User | str, kind: str, user: User, status: int = 200
) -> HttpResponse:
    document = documents.user_document(user)
    target = ("user", str(user.pk), user.get_username())
    _record(request, caller, kind, target, active=user.is_active)
    location = request.build_absolute_uri(document["meta"]["location"])
    return _answer(_selected(request, document), status, Location=location)


# Groups.


def _list_groups(request: HttpRequest, caller: User | str) -> HttpResponse:
    found = documents.groups()
    if text := request.GET.get("filter", "").strip():
        condition = parse_filter(text)
        found = found.filter(_groups_where(condition))
    unwanted = request.GET.get("excludedAttributes", "").lower()
    return _list(
        request,
        found,
        lambda group: documents.group_document(group, with_members="members" not in unwanted),
    )


def _groups_where(condition: Equals) -> Q:
    value = str(condition.value)
    if "\0" in value:
        return Q(pk=None)
    match condition.attribute:
        case "displayname":
            marked = [
                group.pk
                for group in documents.groups()
                if base_name(group.name, documents.SOURCE).casefold() == value.casefold()
            ]
            return Q(pk__in=marked)
        case "externalid":
            return Q(profile__external_id=f"{documents.SOURCE}:{value}")
        case "id":
            return Q(pk=int(value)) if value.isdecimal() and len(value) < 19 else Q(pk=None)
        case "members" | "members.value":
            return Q(user__pk=int(value)) if value.isdecimal() and len(value) < 19 else Q(pk=None)
    raise ScimError(
        f"Filtering by {condition.attribute} is not supported. Use displayName, externalId, id or "
        "members.value.",
        kind="invalidFilter",
    )


def _create_group(request: HttpRequest, caller: User | str) -> HttpResponse:
    return _group_changed(
        request, caller, "scim.group_created", changes.create_group(_body(request)), status=201
    )


def _group(id: int) -> Group:
    found = documents.groups().filter(pk=id).first()
    if found is None:
        raise not_found("Group", str(id))
    return found


def _get_group(request: HttpRequest, caller: User | str, id: int) -> HttpResponse:
    return _answer(_selected(request, documents.group_document(_group(id))))


def _put_group(request: HttpRequest, caller: User | str, id: int) -> HttpResponse:
    group = changes.change_group(_group(id), _body(request))
    return _group_changed(request, caller, "scim.group_changed", group)


def _patch_group(request: HttpRequest, caller: User | str, id: int) -> HttpResponse:
    group = _group(id)
    after = patch.apply(documents.group_document(group), _body(request))
    group = changes.change_group(group, after)
    return _group_changed(request, caller, "scim.group_changed", group)


def _delete_group(request: HttpRequest, caller: User | str, id: int) -> HttpResponse:
    group = _group(id)
    name = group.name
    changes.delete_group(group)
    _record(request, caller, "scim.group_deleted", ("group", str(id), name))
    return HttpResponse(status=204)


def _group_changed(
    request: HttpRequest, caller: User | str, kind: str, group: Group, status: int = 200
) -> HttpResponse:
    document = documents.group_document(group)
    _record(
        request,
        caller,
        kind,
        ("group", str(group.pk), group.name),
        members=len(document["members"]),
    )
    location = request.build_absolute_uri(document["meta"]["location"])
    return _answer(_selected(request, document), status, Location=location)


def _record(
    request: HttpRequest,
    caller: User | str,
    kind: str,
    target: tuple[str, str, str],
    **details: Any,
) -> None:
    record(kind, request=request, user=caller, via="scim", target=target, **details)


# What the service supports.


def _service(request: HttpRequest, caller: User | str) -> HttpResponse:
    return _answer(schemas.SERVICE)


def _described(entries: list[dict[str, Any]]) -> Handler:
    def handler(request: HttpRequest, caller: User | str) -> HttpResponse:
        return _answer(
            {
                "schemas": [documents.LIST],
                "totalResults": len(entries),
                "startIndex": 1,
                "itemsPerPage": len(entries),
                "Resources": entries,
            }
        )

    return handler


def _described_one(entries: list[dict[str, Any]]) -> Handler:
    def handler(request: HttpRequest, caller: User | str, id: str) -> HttpResponse:
        found: Mapping[str, Any] | None = next((one for one in entries if one["id"] == id), None)
        if found is None:
            raise not_found("Resource", id[:100])
        return _answer(found)

    return handler


def _nothing(request: HttpRequest, caller: User | str, rest: str = "") -> HttpResponse:
    raise ScimError(f"/scim/v2/{rest[:100]} does not exist.", status=404)


users = endpoint(get=_list_users, post=_create_user)
user = endpoint(get=_get_user, put=_put_user, patch=_patch_user, delete=_delete_user)
groups = endpoint(get=_list_groups, post=_create_group)
group = endpoint(get=_get_group, put=_put_group, patch=_patch_group, delete=_delete_group)
service = endpoint(get=_service)
resource_types = endpoint(get=_described(schemas.RESOURCE_TYPES))
resource_type = endpoint(get=_described_one(schemas.RESOURCE_TYPES))
schema_list = endpoint(get=_described(schemas.SCHEMAS))
schema = endpoint(get=_described_one(schemas.SCHEMAS))
nothing = endpoint(
    **dict.fromkeys(("get", "post", "put", "patch", "delete", "head", "options"), _nothing)
)
