"""What Ollama's endpoints share: error bodies, line streams, and parsing of common values."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_exempt

from chatsite import durations
from chatsite.accounts.keys import Caller
from chatsite.api.core import http
from chatsite.api.core.http import BadField, View, encode
from chatsite.audit.record import record
from chatsite.errors import ChatsiteError
from chatsite.policy.decisions import NotAllowed
from models_admin.models import Job, ModelName

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/x-ndjson"
# Characters of an invalid value that an error message quotes.
_SHOWN_CHARS = 100


class ChangeNotAllowed(NotAllowed):
    message = _("Only an administrator may change the models of this server.")


class NotHere(ChatsiteError):
    code = "not_implemented"
    status = 501
    message = _("Pushing models is not supported.")


class NoSuchModel(ChatsiteError):
    """A missing model in Ollama's own words, which clients match."""

    code = "model_not_found"
    status = 404

    def __init__(self, name: str) -> None:
        super().__init__(f"model '{name}' not found")


def refusal(error: ChatsiteError) -> HttpResponse:
    error = http.for_programs(error)
    response = http.refusal(error)
    response.content = encode({"error": http.words(error)})
    return response


def endpoint(scope: str, *methods: str, streamed: bool = False) -> Callable[[View], View]:
    return http.endpoint(scope, *methods, refuse=refusal, streamed=streamed)


def may_change(caller: Caller, permission: str) -> None:
    """Raise `ChangeNotAllowed` unless the caller has the permission. Reads the database."""
    if not may(caller, permission):
        raise ChangeNotAllowed


def may(caller: Caller, permission: str) -> bool:
    """Return whether the caller has the permission. Reads the database."""
    return caller.user.has_perm(f"models_admin.{permission}_modelname")


def keep_alive(value: float | str | None) -> float | None:
    """Return seconds, negative for no expiry; None for the server's default. Raises `BadField`."""
    try:
        return None if value is None else durations.seconds(value)
    except ValueError:
        shown = str(value)[:_SHOWN_CHARS]
        raise BadField(f'time: invalid duration "{shown}"', param="keep_alive") from None


async def stay(caller: Caller, model: ModelName, value: float | str | None) -> float | None:
    """Return `keep_alive` within the caller's permissions.

    A user who may not change models can't make one unload earlier than its own setting says.
    """
    wanted = keep_alive(value)
    if wanted is None or await sync_to_async(may)(caller, "change"):
        return wanted
    own = settings.ENV.keep_alive if model.keep_alive is None else model.keep_alive
    return durations.longer(wanted, own)


def schema(format: Any) -> dict[str, Any] | None:
    """Return the JSON schema that ``format`` requests. Raises `BadField`."""
    if format in (None, ""):
        return None
    if format == "json":
        return {"type": "object"}
    if isinstance(format, dict):
        return format
    raise BadField(
        f'invalid format: {encode(format).decode()}; expected "json" or a valid JSON Schema object'
    )


def now() -> str:
    return timestamp(datetime.now(UTC))


def timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def line(value: object) -> bytes:
    return encode(value) + b"\n"


def failure(error: ChatsiteError) -> bytes:
    """Return the last line of a stream that failed."""
    return line({"error": http.words(error)})


async def told(steps: AsyncIterator[dict[str, Any]], *, stream: bool) -> HttpResponseBase:
    """Report the steps of a long operation: each as a line, or only the last when it is done."""
    if stream:
        return await lines(steps)
    return http.answer([step async for step in steps][-1])


async def lines(objects: AsyncIterator[dict[str, Any]]) -> HttpResponseBase:
    """Stream one JSON object per line; an error before the first is an ordinary error response."""

    async def chunks() -> AsyncGenerator[bytes]:
        sent = False
        try:
            async for object in objects:
                yield line(object)
                sent = True
        except ChatsiteError as error:
            if not sent:
                raise
            yield failure(error)
        except Exception as error:
            if not sent:
                raise
            log.error("API stream failed", exc_info=error)
            yield failure(ChatsiteError())

    return await http.stream(chunks(), CONTENT_TYPE)


@csrf_exempt
async def nothing(request: HttpRequest) -> HttpResponse:
    return refusal(http.NoSuchAddress())


def record_model(
    request: HttpRequest, caller: Caller, kind: str, model: ModelName, source: str = ""
) -> None:
    target = ("model", str(model.pk), model.name)
    record(
        kind, request=request, user=caller.user, via="ollama", target=target, source=source or None
    )


def record_job(request: HttpRequest, caller: Caller, kind: str, job: Job) -> None:
    """Record a job that creates a model."""
    record(
        kind,
        request=request,
        user=caller.user,
        via="ollama",
        target=("model", job.target, job.target),
        job=str(job.pk),
        source=job.source,
    )
