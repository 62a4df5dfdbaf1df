"""Audit events of API requests: new addresses of keys, refusals and, if wanted, each request."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest

from chatsite.accounts.keys import Caller
from chatsite.audit import key_addresses
from chatsite.audit.record import Outcome, record
from chatsite.audit.repeats import Repeats
from chatsite.errors import ChatsiteError

# Statuses that say "not you" or "not now"; others are mistakes in requests.
_RECORDED: Final = frozenset({401, 403, 429})
_PREFIX_CHARS: Final = 9
refusals: Final = Repeats()


def via(request: HttpRequest) -> str:
    return "ollama" if request.path.startswith("/api/") else "openai"


def admitted(request: HttpRequest, caller: Caller) -> None:
    """Record the first use of a key from an address. Reads the database then only."""
    key = caller.key
    address = request.META.get("REMOTE_ADDR", "")
    if key is not None and key_addresses.is_new(key.pk, address):
        record(
            "key.new_address",
            request=request,
            user=caller.user,
            via=via(request),
            target=("key", str(key.pk), key.prefix),
        )


def answered(request: HttpRequest, caller: Caller, status: int) -> None:
    """Record a request if `CHATSITE_AUDIT_API` is ``all``."""
    if settings.ENV.audit_api == "all":
        _record("api.request", request, caller, "ok", status=status)


def refused(
    request: HttpRequest, error: ChatsiteError, caller: Caller | None, key: str | None
) -> None:
    """Record a refusal; of equal ones of an address one per minute, with the number of others."""
    if error.status not in _RECORDED:
        return
    prefix = key[:_PREFIX_CHARS] if key and key.startswith("cs-") else ""
    user = caller.user.pk if caller else None
    alike = (request.META.get("REMOTE_ADDR"), user, prefix, error.code, request.path)
    omitted = refusals.take(alike)
    if omitted is not None:
        _record(
            "api.refused",
            request,
            caller,
            "denied",
            status=error.status,
            code=error.code,
            key=prefix,
            omitted=omitted,
        )


def _record(
    kind: str,
    request: HttpRequest,
    caller: Caller | None,
    outcome: Outcome,
    **details: Any,
) -> None:
    key = caller.key if caller else None
    record(
        kind,
        request=request,
        user=caller.user if caller else "",
        via=via(request),
        target=("key", str(key.pk), key.prefix) if key else None,
        outcome=outcome,
        method=request.method or "",
        path=request.path,
        **details,
    )
