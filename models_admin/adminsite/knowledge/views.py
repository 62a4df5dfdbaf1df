"""Knowledge: totals, collections with their shares, failures, and the progress of vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST

from chatsite.knowledge import embedding_model, figures, ingest, vectors_job
from chatsite.knowledge.models import Collection, Share
from models_admin.adminsite.live import access

VIEW: Final = "knowledge.view_collection"
CHANGE: Final = "knowledge.change_collection"
_PER_PAGE: Final = 50
_RETRIES: Final = 1000


@dataclass(frozen=True)
class Line:
    """A collection with its figures; ``shared`` names users and groups with access."""

    collection: Collection
    owner: str
    documents: int
    bytes: int
    uses: int
    shared: list[str]


@require_GET
@access.page(VIEW)
def overview(request: HttpRequest) -> HttpResponse:
    shares = Prefetch("shares", Share.objects.select_related("user", "group"))
    rows = figures.collections().prefetch_related(shares)
    part = Paginator(rows, _PER_PAGE).get_page(request.GET.get("page"))
    values = {
        "totals": figures.totals(),
        "part": part,
        "lines": _lines(list(part.object_list)),
        "failed": figures.failed()[: figures.LISTED],
        "used": figures.most_used()[: figures.LISTED],
        "model": embedding_model.current(),
        "progress": vectors_job.progress(),
        "may_change": request.user.has_perm(CHANGE),
    }
    return render(
        request, "admin/knowledge/overview.html", access.context(request, _("Knowledge"), **values)
    )


@require_POST
@access.page(CHANGE)
def retry(request: HttpRequest) -> HttpResponse:
    """Read the documents again that could not be read."""
    found = list(figures.failed()[:_RETRIES])
    for document in found:
        ingest.retry(document)
    text = ngettext(
        "%(count)s document is queued again.", "%(count)s documents are queued again.", len(found)
    )
    messages.success(request, text % {"count": len(found)})
    return redirect("admin:knowledge")


def _lines(collections: list[Collection]) -> list[Line]:
    sizes = figures.sizes([one.pk for one in collections])
    return [
        Line(
            one,
            one.group.name if one.group else one.owner.get_username() if one.owner else "",
            one.document_count,  # type: ignore[attr-defined]  # annotated
            *sizes.get(one.pk, (0, 0)),
            shared=[_shared(share) for share in one.shares.all()],
        )
        for one in collections
    ]


def _shared(share: Share) -> str:
    name = share.group.name if share.group else share.user.get_username() if share.user else ""
    return _("%(name)s (edit)") % {"name": name} if share.may_write else name
