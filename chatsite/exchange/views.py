"""Conversations out as files, and in from other programs."""

from __future__ import annotations

import asyncio
import json
import tempfile
import uuid
from collections.abc import AsyncIterator
from typing import IO, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.http import content_disposition_header
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from chatsite.accounts.models import User
from chatsite.chat.hints import conversation_changed
from chatsite.chat.http import json_api
from chatsite.chat.models import Conversation
from chatsite.errors import BadRequest, ChatsiteError, NotFound, TooLarge
from chatsite.exchange import taking, writers
from models_admin import disk

Response = TypeVar("Response", HttpResponse, StreamingHttpResponse)
BODY_MAX = 16 * 2**20
_BATCH_MAX = 200
_CHUNK = 2**18
_OPEN_MOST = 4
# Exports of this process that are written or read, with their people. One whose request was
# cancelled before it had an answer leaves with its file.
_open: WeakKeyDictionary[IO[bytes], int] = WeakKeyDictionary()


class ExportBusy(ChatsiteError):
    code = "export_busy"
    status = 429
    permanent = False
    message = _("An export is being written already. Try again when it has arrived.")


@require_GET
@never_cache
@json_api
async def one(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """``?form=markdown`` or ``json``."""
    form = request.GET.get("form", "markdown")
    if form not in {"markdown", "json"}:
        raise BadRequest

    def write() -> HttpResponse:
        found = Conversation.objects.of(user).select_related("folder", "head").filter(pk=id).first()
        if found is None:
            raise NotFound
        if form == "json":
            content = json.dumps(writers.as_dict(found), ensure_ascii=False, indent=1)
            response = HttpResponse(content, content_type="application/json")
        else:
            response = HttpResponse(
                writers.as_markdown(found), content_type="text/markdown; charset=utf-8"
            )
        return _named(response, writers.file_name(found, "json" if form == "json" else "md"))

    return await sync_to_async(write)()


@require_GET
@never_cache
@json_api
async def everything(request: HttpRequest, user: User) -> HttpResponseBase:
    """A ZIP file, written to disk first: Daphne would hold in memory what a slow reader has not
    taken, and a file that fails half-way must not look like a whole one."""

    if user.pk in _open.values() or len(_open) >= _OPEN_MOST:
        raise ExportBusy
    with disk.full_refused():
        file = tempfile.TemporaryFile(dir=settings.DATA_DIR)  # noqa: SIM115  (closed by `_Export`)
        _open[file] = user.pk
        try:
            await sync_to_async(writers.write_all)(user, file)
        except BaseException:
            file.close()
            _open.pop(file)
            raise
    size = file.tell()
    file.seek(0)
    response = _Export(file)
    response["Content-Length"] = str(size)
    return _named(response, f"chatsite {timezone.localdate().isoformat()}.zip")


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, _CHUNK):
        yield chunk


class _Export(StreamingHttpResponse):
    """Of a file that goes with it, read or not."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(_chunks(file), content_type="application/zip")
        self._file = file

    def close(self) -> None:
        super().close()
        self._file.close()
        _open.pop(self._file, None)


@require_POST
@json_api
async def take(request: HttpRequest, user: User) -> HttpResponse:
    """A JSON array of conversations as they were exported, some of a file at a time: the page
    cuts the file, so that no file is too large. Answers with `taking.take`'s report."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > BODY_MAX:
        raise TooLarge(most=BODY_MAX // 2**20)
    try:
        # Not msgspec, which takes no half of a surrogate pair; other programs wrote some.
        raws = json.loads(request.read(BODY_MAX))
    except (ValueError, RecursionError) as error:
        raise BadRequest from error
    if not isinstance(raws, list) or len(raws) > _BATCH_MAX:
        raise BadRequest
    report = await sync_to_async(taking.take)(user, raws)
    if report["taken"]:
        await conversation_changed(user.pk, "", "updated")
    return JsonResponse(report)


def _named(response: Response, name: str) -> Response:
    response["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
    return response
