"""Export of conversations as files, and import from other programs."""

from __future__ import annotations

import json
import tempfile
import uuid
from typing import IO, Any
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from chatsite import json_input
from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.conversations.hints import list_changed
from chatsite.conversations.models import Conversation
from chatsite.errors import BadRequest, ChatsiteError, ConversationNotFound, TooLarge
from chatsite.exchange import taking, writers
from chatsite.exchange.download import FileDownload, named
from chatsite.json_api import answered, json_api
from chatsite.numbers import natural
from chatsite.policy import decisions
from chatsite.policy.features import Feature
from models_admin.store import disk

BODY_MAX = 16 * 2**20
_BATCH_MAX = 200
_OPEN_MOST = 4
# Open exports of this process, with the IDs of their users. Weak keys: if a request is cancelled
# before it has a response, its file is collected and the entry with it.
open_exports: WeakKeyDictionary[IO[bytes], int] = WeakKeyDictionary()


class ExportBusy(ChatsiteError):
    code = "export_busy"
    status = 429
    permanent = False
    message = _("An export is already in progress. Try again when it has finished.")


@require_GET
@never_cache
@json_api
async def one(request: HttpRequest, user: User, id: uuid.UUID) -> HttpResponse:
    """Export a conversation; ``?form=markdown`` or ``json``."""
    form = request.GET.get("form", "markdown")
    if form not in {"markdown", "json"}:
        raise BadRequest

    def write() -> HttpResponse:
        decisions.require(user, Feature.EXPORT)
        found = Conversation.objects.of(user).select_related("folder", "head").filter(pk=id).first()
        if found is None:
            raise ConversationNotFound
        if form == "json":
            content = json.dumps(writers.as_dict(found), ensure_ascii=False, indent=1)
            response = HttpResponse(content, content_type="application/json")
        else:
            response = HttpResponse(
                writers.as_markdown(found), content_type="text/markdown; charset=utf-8"
            )
        return named(response, writers.file_name(found, "json" if form == "json" else "md"))

    response = await sync_to_async(write)()
    target = ("conversation", str(id), "")
    record("conversation.exported", request=request, user=user, target=target, format=form)
    return response


@require_GET
@never_cache
@json_api
async def everything(request: HttpRequest, user: User) -> HttpResponseBase:
    """Export all conversations as a ZIP file.

    It is written to disk first: Daphne would hold in memory what a slow reader has not received,
    and a file that fails half-way must not look complete.
    """

    await sync_to_async(decisions.require)(user, Feature.EXPORT)
    if user.pk in open_exports.values() or len(open_exports) >= _OPEN_MOST:
        raise ExportBusy
    with disk.full_refused():
        file = tempfile.TemporaryFile(dir=settings.DATA_DIR)  # noqa: SIM115  (closed by `_Export`)
        open_exports[file] = user.pk
        try:
            await sync_to_async(writers.write_all)(user, file)
        except BaseException:
            file.close()
            open_exports.pop(file)
            raise
    record("conversation.exported", request=request, user=user, all=True, bytes=file.tell())
    return FileDownload(
        file,
        f"chatsite {timezone.localdate().isoformat()}.zip",
        on_close=lambda: open_exports.pop(file, None),
    )


@require_POST
@json_api
async def take(request: HttpRequest, user: User) -> HttpResponse:
    """Import a JSON array of exported conversations; return the report of `taking.take`.

    The page splits a file into such arrays, so its size is not limited.
    """
    if natural(request.META.get("CONTENT_LENGTH") or "0", BODY_MAX) is None:
        raise TooLarge(most=BODY_MAX // 2**20)
    await sync_to_async(decisions.require)(user, Feature.IMPORT)
    report = await sync_to_async(lambda: taking.take(user, _batch(request.read(BODY_MAX))))()
    if report["taken"]:
        record("conversation.imported", request=request, user=user, count=report["taken"])
        await list_changed(user.pk)
    return answered(report)


def _batch(data: bytes) -> list[Any]:
    """Return the conversations of a body. Raises `BadRequest`."""
    try:
        json_input.check_size(data)
        # msgspec refuses lone surrogates, which some programs write.
        raws = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRequest(reason=str(error)) from error
    if not isinstance(raws, list) or len(raws) > _BATCH_MAX:
        raise BadRequest
    return raws
