"""`record`: the one call by which all parts of the product write audit events.

It appends one line to the spool of this process (`spool.py`) and returns. The drainer moves the
lines into the hash-chained table. So it costs microseconds, works without database and Redis, and
can be called from any thread and from the event loop.
"""

from __future__ import annotations

import logging
import os
import pwd
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import LazyObject

from chatsite import logs
from chatsite.audit.kinds import KINDS
from chatsite.audit.spool import Spool, folder

log = logging.getLogger(__name__)

Outcome = Literal["ok", "denied", "failed"]
Detail = str | int | float | bool | list[str] | None

SCHEMA_VERSION: Final = 1
# Where an event came from. Others are accepted too: an event must not be lost.
VIAS: Final = ("page", "socket", "openai", "ollama", "cli", "system", "scim")

_NAME_CHARS: Final = 200
_DETAIL_CHARS: Final = 500
_DETAILS_MOST: Final = 30
_LIST_MOST: Final = 50
_DETAILS_BYTES: Final = 4096

encode = msgspec.json.Encoder(order="sorted").encode
_unknown: set[str] = set()


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the spool. ``time`` is in microseconds since 1970, UTC."""

    v: int = SCHEMA_VERSION
    time: int
    kind: str
    outcome: str
    actor_id: str
    actor_name: str
    via: str
    address: str
    agent: str
    request_id: str
    target_type: str
    target_id: str
    target_name: str
    details: dict[str, Any]


def record(
    kind: str,
    *,
    request: HttpRequest | None = None,
    user: Any = None,
    via: str = "page",
    address: str = "",
    target: tuple[str, str, str] | None = None,
    outcome: Outcome = "ok",
    **details: Detail,
) -> None:
    """Record an event. Never raises, never waits for database or Redis.

    ``user`` is the actor: a user object or a name. Without it the actor is the signed-in user of
    ``request``, for via="cli" the system user. ``target`` is a type, an ID and a name. Values are
    truncated. Must not contain passwords, keys or the text of conversations.
    """
    try:
        own = spool()
        found = event(
            kind,
            request=request,
            user=user,
            via=via,
            address=address,
            target=target,
            outcome=outcome,
            details=details,
        )
        own.append(encode(found) + b"\n")
        if own.dropped and not own.kept:
            lost = {"count": own.take_dropped()}
            loss = event("audit.lost", via="system", outcome="failed", details=lost)
            own.append(encode(loss) + b"\n")
    except Exception:
        log.exception("Audit event can't be recorded", extra={"kind": kind})


@cache
def spool() -> Spool:
    return Spool(folder(Path(settings.DATA_DIR)))


def event(
    kind: str,
    *,
    request: HttpRequest | None = None,
    user: Any = None,
    via: str = "page",
    address: str = "",
    target: tuple[str, str, str] | None = None,
    outcome: str = "ok",
    details: Mapping[str, Detail],
) -> Recorded:
    """Return an event of this moment, with truncated values."""
    if kind not in KINDS and kind not in _unknown:
        _unknown.add(kind)
        log.warning("Undeclared kind of audit event", extra={"kind": kind})
    agent = ""
    if request is not None:
        meta = request.META
        address = address or meta.get("REMOTE_ADDR") or ""
        agent = meta.get("HTTP_USER_AGENT") or ""
        if user is None:
            user = _signed_in(request)
    actor_id, actor_name = _actor(user, via)
    target_type, target_id, target_name = target or ("", "", "")
    return Recorded(
        time=time.time_ns() // 1000,
        kind=clean(kind, 60),
        outcome=clean(outcome, 10),
        actor_id=clean(actor_id, 64),
        actor_name=clean(actor_name, _NAME_CHARS),
        via=clean(via, 20),
        address=clean(address, 64),
        agent=clean(agent, _NAME_CHARS),
        request_id=clean(logs.request_id.get(), 64),
        target_type=clean(target_type, 40),
        target_id=clean(str(target_id), 100),
        target_name=clean(str(target_name), _NAME_CHARS),
        details=_details(details),
    )


def _signed_in(request: HttpRequest) -> Any:
    """Return the user of a request if it is known already: looking it up would need a query."""
    for name in ("_cached_user", "_acached_user"):
        if (found := getattr(request, name, None)) is not None:
            return found
    found = request.__dict__.get("user")
    return None if isinstance(found, LazyObject) else found


def _actor(user: Any, via: str) -> tuple[str, str]:
    if isinstance(user, str):
        return "", user
    if user is not None and getattr(user, "pk", None) is not None:
        return str(user.pk), str(user.get_username())
    if via == "cli":
        return "", system_user()
    return "", "system" if via == "system" else ""


@cache
def system_user() -> str:
    """Return the user of this process, and who called it by sudo."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    caller = os.environ.get("SUDO_USER")
    return f"{name} (sudo: {caller})" if caller else name


def clean(text: str, most: int) -> str:
    """Truncate; replace what databases, terminals and syslog servers can't take."""
    if len(text) > most:
        text = f"{text[: most - 1]}…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "�" for char in text)


def _details(given: Mapping[str, Detail]) -> dict[str, Detail]:
    if not given:
        return {}
    found = {clean(name, 40): _detail(value) for name, value in list(given.items())[:_DETAILS_MOST]}
    if len(given) > _DETAILS_MOST or len(encode(found)) > _DETAILS_BYTES:
        found = _shortened(found)
    return found


def _detail(value: Any) -> Detail:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)
    if isinstance(value, float):
        # Other programs write floats differently, and the hash must be reproducible.
        return int(value) if value.is_integer() and abs(value) < 2**53 else f"{value:g}"
    if isinstance(value, (list, tuple, set, frozenset)):
        shown = [clean(str(one), _DETAIL_CHARS) for one in list(value)[:_LIST_MOST]]
        return shown if len(value) <= _LIST_MOST else [*shown, f"… ({len(value)})"]
    return clean(str(value), _DETAIL_CHARS)


def _shortened(found: dict[str, Detail]) -> dict[str, Detail]:
    """Keep as many details as fit, shorter, and say that some are missing."""
    kept: dict[str, Detail] = {"truncated": True}
    for name, value in found.items():
        short: Detail = value
        if isinstance(value, list):
            short = [clean(one, 60) for one in value[:10]]
        elif isinstance(value, str):
            short = clean(value, 100)
        if len(encode({**kept, name: short})) <= _DETAILS_BYTES:
            kept[name] = short
    return kept
