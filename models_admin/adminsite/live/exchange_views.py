"""The admin page that imports and uploads files and exports bundles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from chatsite.errors import BadRequest, ChatsiteError
from chatsite.json_api import decoded
from chatsite.numbers import natural
from models_admin.adminsite.live import access
from models_admin.jobs import bundle, enqueue, importing, incoming
from models_admin.models import Job, ModelName


class _Announced(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
    size: Annotated[int, msgspec.Meta(ge=1)]


@require_GET
@access.page("add_job")
def exchange(request: HttpRequest) -> HttpResponse:
    values = {
        "files": [_file(path) for path in incoming.waiting()],
        "folder": incoming.folder(),
        "models": ModelName.objects.filter(version__remote={}).select_related("version"),
        "bundles": [(path, path.stat().st_size) for path in _bundles()],
        "upload": {"csrf": get_token(request), "piece": incoming.PIECE_BYTES},
    }
    shown = access.context(request, _("Import and export"), **values)
    return render(request, "admin/exchange.html", shown)


def _file(path: Path) -> dict[str, Any]:
    """Return the row of a file; ``suggested`` is empty for a bundle, which has its own names."""
    suggested = "" if bundle.is_bundle(path) else incoming.suggested_name(path)
    return {"name": path.name, "size": path.stat().st_size, "suggested": suggested}


def _bundles() -> list[Path]:
    return sorted(importing.folder().glob("*.tar"), reverse=True)


@require_POST
@access.page("add_job")
def import_file(request: HttpRequest) -> HttpResponse:
    file, name = request.POST.get("file", ""), request.POST.get("name", "").strip()
    available = bool(request.POST.get("available"))
    by = access.current_user(request)
    return _ask(request, lambda: enqueue.import_file(file, name, available=available, by=by))


@require_POST
@access.page("add_job")
def export(request: HttpRequest) -> HttpResponse:
    wanted = request.POST.getlist("models")
    if not wanted:
        messages.error(request, _("Select at least one model."))
        return redirect("admin:exchange")
    return _ask(request, lambda: enqueue.export(wanted, by=access.current_user(request)))


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
    announced = decoded(request, _Announced)
    id = incoming.begin(_owner(request), announced.size, announced.name)
    return access.answered(id=str(id), arrived=0)


@require_http_methods(["GET", "POST"])
@access.action("add_job")
def upload(request: HttpRequest, id: UUID) -> HttpResponse:
    """Return the bytes received; with POST, append the body as the piece at ``offset`` first."""
    if request.method == "GET":
        return access.answered(arrived=incoming.arrived(id, _owner(request)))
    offset = natural(request.GET.get("offset", ""), 2**63 - 1)
    if offset is None:
        raise BadRequest
    # Read as a stream, because the size limit of `request.body` is meant for forms.
    return access.answered(arrived=incoming.append(id, _owner(request), offset, request))


@require_POST
@access.action("add_job")
def install_upload(request: HttpRequest, id: UUID) -> HttpResponse:
    name = request.POST.get("name", "").strip()
    job, new = enqueue.import_upload(
        id, name, available=bool(request.POST.get("available")), by=access.current_user(request)
    )
    if new:
        access.record(request, job, incoming.read(id, _owner(request)).name, new=True)
    return access.answered(job=str(job.pk))


def _owner(request: HttpRequest) -> str:
    return str(access.current_user(request).pk)
