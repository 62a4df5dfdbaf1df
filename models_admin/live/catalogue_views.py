"""The page where models are found: the curated list with what fits, and the hub's search."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from chatsite.errors import ChatsiteError
from models_admin import catalogue_data, dashboard, fit
from models_admin.live import access
from models_admin.models import Job, JobKind, ModelName
from models_admin.sources import huggingface


@dataclass(frozen=True)
class Choice:
    """One file of a model: ``verdict`` and ``why`` are None and empty while no host tells its
    memory."""

    source: str
    label: str
    verdict: fit.Verdict | None
    why: str


@dataclass(frozen=True)
class Offer:
    """``installed`` is the name by which it is here already."""

    entry: catalogue_data.Entry
    choices: list[Choice]
    best: Choice
    installed: str
    under_way: bool


@require_GET
@access.page("view_job")
def catalogue(request: HttpRequest) -> HttpResponse:
    query = request.GET.get("q", "").strip()
    repository = request.GET.get("repo", "").strip()
    purpose = request.GET.get("purpose", "")
    values: dict[str, Any] = {
        "query": query,
        "repository": repository,
        "purpose": purpose,
        "purposes": catalogue_data.PURPOSES,
        "may_add": request.user.has_perm("models_admin.add_job"),
    }
    try:
        if repository:
            values["files"] = asyncio.run(huggingface.files(repository))
        elif query:
            values["found"] = asyncio.run(huggingface.search(query))
    except ChatsiteError as error:
        values["error"] = str(error)
    if not query and not repository:
        values["offers"] = _offers(purpose)
    return render(
        request, "admin/catalogue.html", access.context(request, _("Catalogue"), **values)
    )


def _offers(purpose: str) -> list[Offer]:
    room = fit.room(dashboard.hosts() or ())
    installed = {model.origin or model.name: model.name for model in ModelName.objects.all()}
    open_jobs = Job.objects.filter(kind=JobKind.DOWNLOAD, state__in=Job.OPEN)
    under_way = set(open_jobs.values_list("source", flat=True))
    offers = []
    for entry in catalogue_data.entries():
        if purpose and entry.purpose != purpose:
            continue
        choices = [_choice(entry, file, room) for file in entry.files]
        sources = [choice.source for choice in choices]
        here = next((installed[source] for source in sources if source in installed), "")
        fits = [choice for choice in choices if choice.verdict == "fits"]
        best = fits[0] if fits else choices[0]
        offers.append(Offer(entry, choices, best, here, not under_way.isdisjoint(sources)))
    return offers


def _choice(entry: catalogue_data.Entry, file: catalogue_data.File, room: int | None) -> Choice:
    size = filesizeformat(file.size)
    label = f"{file.quantization}, {size}" if file.exact else f"{file.quantization}, ≈ {size}"
    if room is None:
        return Choice(file.source, label, None, "")
    found = fit.fit(
        entry.shape_of(file), room, context=settings.ENV.context, slots=settings.ENV.slots
    )
    return Choice(file.source, label, found.verdict, str(found))
