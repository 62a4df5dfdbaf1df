"""The catalogue page: curated models with their fit, and the search of Hugging Face."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from chatsite.errors import ChatsiteError
from chatsite.hosts import status
from chatsite.hosts.status import HostStatus
from chatsite.sizes import file_size
from models_admin import catalogue_data, fit
from models_admin.adminsite.live import access
from models_admin.models import Job, JobKind, ModelName
from models_admin.sources import huggingface

# A CPU reads about 30 GB of weights per second, which gives about 5 tokens per second.
_CPU_BYTES: Final = 6 << 30
_RECOMMENDED: Final = ("chat", "reasoning", "code")


@dataclass(frozen=True)
class Choice:
    """One file of a model; ``size`` is in bytes.

    ``verdict`` is None and the texts are empty while no host reports its memory.
    """

    source: str
    label: str
    size: int
    verdict: fit.Verdict | None
    short: str
    details: str


@dataclass(frozen=True)
class Offer:
    """A model with its files; ``installed`` is its name if it is installed already."""

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
    sort = request.GET.get("sort", "")
    sort = sort if sort in _SORTS else next(iter(_SORTS))
    values: dict[str, Any] = {
        "query": query,
        "repository": repository,
        "purpose": purpose,
        "sort": sort,
        "sorts": _SORTS,
        "purposes": catalogue_data.PURPOSES,
        "may_add": request.user.has_perm("models_admin.add_job"),
    }
    try:
        if repository:
            values["files"] = huggingface.files(repository)
        elif query:
            values["found"] = huggingface.search(query)
    except ChatsiteError as error:
        values["error"] = str(error)
    if not query and not repository:
        hosts = status.ask_from_thread() or ()
        offers = _offers(fit.room(hosts))
        values["recommended"] = [] if purpose else _recommended(offers, _fast_bytes(hosts))
        shown = [offer for offer in offers if not purpose or offer.entry.purpose == purpose]
        values["offers"] = sorted(shown, key=_ORDERS[sort])
    return render(
        request, "admin/catalogue.html", access.context(request, _("Catalogue"), **values)
    )


def _by_fit(offer: Offer) -> tuple[int, int]:
    """Sort key: models that fit first, the most capable of them first."""
    verdict = offer.best.verdict
    return (_VERDICTS.index(verdict) if verdict else 0, -offer.entry.parameters)


_SORTS: Final = {"fit": _("Fit"), "size": _("Size"), "name": _("Name")}
_VERDICTS: Final = ("fits", "smaller", "none")
_ORDERS: Final[dict[str, Callable[[Offer], Any]]] = {
    "fit": _by_fit,
    "size": lambda offer: offer.best.size,
    "name": lambda offer: offer.entry.name,
}


def _fast_bytes(hosts: Iterable[HostStatus]) -> int:
    """Return the size in bytes of the largest weights that generate at reading speed.

    That is the largest total GPU memory of a host, or `_CPU_BYTES` if that is more.
    """
    return max(
        [_CPU_BYTES, *(sum(device.total for device in host.devices) for host in hosts)],
    )


def _recommended(offers: list[Offer], fast: int) -> list[Offer]:
    """Return the most capable model that fits and is fast here, per purpose of `_RECOMMENDED`."""
    found = []
    for purpose in _RECOMMENDED:
        fitting = [
            offer
            for offer in offers
            if offer.entry.purpose == purpose
            and offer.best.verdict == "fits"
            and offer.best.size <= fast
        ]
        found += sorted(fitting, key=lambda offer: -offer.entry.parameters)[:1]
    return found


def _offers(room: int | None) -> list[Offer]:
    installed = {model.origin or model.name: model.name for model in ModelName.objects.all()}
    open_jobs = Job.objects.filter(kind=JobKind.DOWNLOAD, state__in=Job.OPEN)
    under_way = set(open_jobs.values_list("source", flat=True))
    offers = []
    for entry in catalogue_data.entries():
        choices = [_choice(entry, file, room) for file in entry.files]
        sources = [choice.source for choice in choices]
        here = next((installed[source] for source in sources if source in installed), "")
        fits = [choice for choice in choices if choice.verdict == "fits"]
        best = fits[0] if fits else choices[0]
        offers.append(Offer(entry, choices, best, here, not under_way.isdisjoint(sources)))
    return offers


def _choice(entry: catalogue_data.Entry, file: catalogue_data.File, room: int | None) -> Choice:
    size = file_size(file.size)
    label = f"{file.quantization}, {size}" if file.exact else f"{file.quantization}, ≈ {size}"
    if room is None:
        return Choice(file.source, label, file.size, None, "", "")
    found = fit.fit(
        entry.shape_of(file), room, context=settings.ENV.context, slots=settings.ENV.slots
    )
    return Choice(file.source, label, file.size, found.verdict, found.short, str(found))
