"""The page where files come in from a disk and bundles go out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from chatsite.errors import BadRequest, ChatsiteError
from models_admin import inbox
from models_admin.jobs import asking, importing
from models_admin.live import access
from models_admin.models import Job, ModelName


class _Announced(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
    size: Annotated[int, msgspec.Meta(ge=1)]


@require_GET
@access.page("add_job")
def exchange(request: HttpRequest) -> HttpResponse:
    values = {
        "files": [(path.name, path.stat().st_size) for path in inbox.waiting()],
        "folder": inbox.folder(),
        "models": ModelName.objects.select_related("version"),
        "bundles": [(path, path.stat().st_size) for path in _bundles()],
        "upload": {"csrf": get_token(request), "piece": inbox.PIECE_BYTES},
    }
    shown = access.context(request, _("Import and export"), **values)
    return render(request, "admin/exchange.html", shown)


def _bundles() -> list[Path]:
    return sorted(importing.folder().glob("*.tar"), reverse=True)


@require_POST
@access.page("add_job")
def import_file(request: HttpRequest) -> HttpResponse:
    file, name = request.POST.get("file", ""), request.POST.get("name", "").strip()
    return _ask(request, lambda: asking.import_file(file, name, by=access.person(request)))


@require_POST
@access.page("add_job")
def export(request: HttpRequest) -> HttpResponse:
    wanted = request.POST.getlist("models")
    if not wanted:
        messages.error(request, _("Choose the models first."))
        return redirect("admin:exchange")
    return _ask(request, lambda: asking.export(wanted, by=access.person(request)))


def _ask(request: HttpRequest, ask: Callable[[], tuple[Job, bool]]) -> HttpResponse:
    try:
        job, new = ask()
    except ChatsiteError as error:
        messages.error(request, str(error))
        return redirect("admin:exchange")
    if new:
        access.record(request, job, job.source, new=True)
    return redirect("admin:jobs")


@require_POST
@access.action("add_job")
def begin_upload(request: HttpRequest) -> HttpResponse:
    try:
        announced = msgspec.json.decode(request.body, type=_Announced)
    except msgspec.DecodeError as error:
        raise BadRequest(reason=str(error)) from error
    id = inbox.begin(_owner(request), announced.size, announced.name)
    return access.answered(id=str(id), arrived=0)


@require_http_methods(["GET", "POST"])
@access.action("add_job")
def upload(request: HttpRequest, id: UUID) -> HttpResponse:
    """How much has arrived; with POST also takes the body as the piece at ``offset``."""
    if request.method == "GET":
        return access.answered(arrived=inbox.arrived(id, _owner(request)))
    offset = request.GET.get("offset", "")
    if not offset.isdecimal():
        raise BadRequest
    # Read as a stream: `request.body` has a limit that is meant for forms.
    return access.answered(arrived=inbox.append(id, _owner(request), int(offset), request))


@require_POST
@access.action("add_job")
def install_upload(request: HttpRequest, id: UUID) -> HttpResponse:
    name = request.POST.get("name", "").strip()
    job, new = asking.import_upload(id, name, by=access.person(request))
    if new:
        access.record(request, job, inbox.read(id, _owner(request)).name, new=True)
    return access.answered(job=str(job.pk))


def _owner(request: HttpRequest) -> str:
    return str(access.person(request).pk)
