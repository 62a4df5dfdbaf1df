"""What Ollama's endpoints share: the shape of errors, streams of lines, and values of theirs."""

from __future__ import annotations

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
from chatsite.api import http
from chatsite.api.http import BadField, View, encode
from chatsite.errors import ChatsiteError
from models_admin.models import ModelName

CONTENT_TYPE = "application/x-ndjson"


class NotAllowed(ChatsiteError):
    code = "not_allowed"
    status = 403
    message = _("Only an administrator may change the models of this server.")


class NotHere(ChatsiteError):
    code = "not_implemented"
    status = 501
    message = _("Models stay on this server: it offers no push.")


class NoSuchModel(ChatsiteError):
    """With Ollama's own text, which clients look for."""

    code = "model_not_found"
    status = 404

    def __init__(self, name: str, text: str = "model '%s' not found") -> None:
        super().__init__(text % name)


def refusal(error: ChatsiteError) -> HttpResponse:
    response = http.refusal(error)
    response.content = encode({"error": str(error)})
    return response


def endpoint(scope: str, *methods: str) -> Callable[[View], View]:
    return http.endpoint(scope, *methods, refuse=refusal)


def may_change(caller: Caller, permission: str) -> None:
    """Raises `NotAllowed`. Reads the database."""
    if not may(caller, permission):
        raise NotAllowed


def may(caller: Caller, permission: str) -> bool:
    """Reads the database."""
    return caller.user.has_perm(f"models_admin.{permission}_modelname")


def keep_alive(value: float | str | None) -> float | None:
    """Seconds, negative for ever; None is the server's own. Raises `BadField`."""
    try:
        return None if value is None else durations.seconds(value)
    except ValueError:
        raise BadField(f'time: invalid duration "{value}"', param="keep_alive") from None


async def stay(caller: Caller, model: ModelName, value: float | str | None) -> float | None:
    """`keep_alive` as this caller may have it: who may not change models can't make one leave
    sooner than its own setting says."""
    wanted = keep_alive(value)
    if wanted is None or await sync_to_async(may)(caller, "change"):
        return wanted
    own = settings.ENV.keep_alive if model.keep_alive is None else model.keep_alive
    return durations.longer(wanted, own)


def schema(format: Any) -> dict[str, Any] | None:
    """The JSON schema that ``format`` asks for. Raises `BadField`."""
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
    """The last line of a stream that failed."""
    return line({"error": str(error)})


async def told(steps: AsyncIterator[dict[str, Any]], *, stream: bool) -> HttpResponseBase:
    """How long work gets on: each step as a line, or the last one alone when it is done."""
    if stream:
        return await lines(steps)
    return http.answer([step async for step in steps][-1])


async def lines(objects: AsyncIterator[dict[str, Any]]) -> HttpResponseBase:
    """One JSON object a line. What goes wrong before the first is an ordinary refusal."""

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

    return await http.stream(chunks(), CONTENT_TYPE)


@csrf_exempt
async def nothing(request: HttpRequest) -> HttpResponse:
    return HttpResponse("404 page not found", status=404, content_type="text/plain")
