"""The pages of remote engines: their list with states, and the form of one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

from asgiref.sync import async_to_sync
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from redis.exceptions import RedisError

from chatsite.errors import ChatsiteError
from chatsite.hosts import commands, status
from chatsite.hosts.status import EngineStatus
from models_admin.adminsite.engines.forms import EngineForm
from models_admin.adminsite.live import access
from models_admin.adminsite.live.snapshot import ENGINE_STATES
from models_admin.engines import work
from models_admin.engines.models import Engine, EngineModel
from models_admin.models import ModelName

log = logging.getLogger(__name__)

VIEW: Final = "engines.view_engine"
CHANGE: Final = "engines.change_engine"


@dataclass(frozen=True)
class Row:
    """An engine with its state on the host that serves it; None if no host does."""

    engine: Engine
    models: int
    status: EngineStatus | None
    host: str

    @property
    def tone(self) -> str:
        if not self.engine.enabled:
            return ""
        state = self.status.state if self.status else ""
        return {"ready": "good", "down": "bad"}.get(state, "info")

    @property
    def state(self) -> str:
        if not self.engine.enabled:
            return _("not in use")
        if self.status is None:
            return _("no host")
        return str(ENGINE_STATES[self.status.state])

    @property
    def error(self) -> str:
        return self.status.error if self.status else ""


def rows() -> list[Row] | None:
    """Return all engines; None if Redis does not answer."""
    hosts = status.ask_from_thread()
    if hosts is None:
        return None
    states = {one.id: (one, host.hostname) for host in hosts for one in host.engines}
    found = []
    for engine in Engine.objects.prefetch_related("models"):
        seen, host = states.get(engine.pk, (None, ""))
        models = sum(one.present for one in engine.models.all())
        found.append(Row(engine, models, seen, host))
    return found


@access.page(VIEW)
@require_GET
def engines(request: HttpRequest) -> HttpResponse:
    found = rows()
    part = request.headers.get("X-Part") == "list"
    template = "list.html" if part else "page.html"
    unknown = found is None
    if found is None:
        found = [Row(engine, 0, None, "") for engine in Engine.objects.all()]
    return _rendered(
        *(request, template, _("Engines")),
        rows=found,
        unknown=unknown,
        labelled_by="engines-title",
    )


@access.page(CHANGE)
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: HttpRequest, id: int | None = None) -> HttpResponse:
    """Add an engine, or change the one with ``id``."""
    engine = get_object_or_404(Engine, pk=id) if id else Engine()
    form = EngineForm(request.POST or None, instance=engine)
    if request.method == "POST" and form.is_valid():
        changed, key = form.apply()
        try:
            stored = work.store(changed, key=key, request=request)
        except ChatsiteError as error:
            form.add_error(None, str(error))
        else:
            _have_checked(stored)
            if not id:
                messages.success(request, _("%s was added. It is being checked.") % stored.name)
            else:
                messages.success(request, _("%s was saved. It is being checked.") % stored.name)
            return redirect("admin:engines")
    offered = _models_of(engine) if id else []
    title = _("Edit engine") if id else _("Add engine")
    status = 422 if form.errors else 200
    shown = {"form": form, "engine": engine if id else None, "models": offered}
    return _rendered(request, "form.html", title, status=status, **shown)


@access.page(CHANGE)
@require_POST
def check(request: HttpRequest, id: int) -> HttpResponse:
    """Have the host that serves the engine check it and ask it for its models."""
    engine = get_object_or_404(Engine, pk=id)
    if _have_checked(engine):
        messages.success(request, _("%s is being checked.") % engine.name)
    else:
        text = _("No inference host is running, so %s was not checked.")
        messages.error(request, text % engine.name)
    return redirect("admin:engines")


@access.page(CHANGE)
@require_POST
def offer(request: HttpRequest, id: int, model: int) -> HttpResponse:
    """Put a model back into the catalogue that was deleted there."""
    row = get_object_or_404(EngineModel, pk=model, engine=id, version=None)
    name = work.offer_again(row)
    messages.success(request, _("%s is in the list of models again.") % (name or row.name))
    return redirect("admin:engine", id)


@access.page(CHANGE)
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, id: int) -> HttpResponse:
    """Ask for confirmation, then remove the engine and the models that only it has."""
    engine = get_object_or_404(Engine, pk=id)
    if request.method != "POST":
        alone = [
            model.name for _row, model in _named(engine) if model.version.engine_models.count() == 1
        ]
        return _rendered(request, "remove.html", _("Remove engine"), engine=engine, models=alone)
    names = work.remove(engine, request=request)
    _have_checked(None)
    if names:
        text = _("%(engine)s was removed, and with it: %(models)s.")
        messages.success(request, text % {"engine": engine.name, "models": ", ".join(names)})
    else:
        messages.success(request, _("%s was removed.") % engine.name)
    return redirect("admin:engines")


def _models_of(engine: Engine) -> list[dict[str, Any]]:
    names: dict[str, list[ModelName]] = {}
    for one, model in _named(engine):
        names.setdefault(one.version_id or "", []).append(model)
    return [
        {"row": one, "names": names.get(one.version_id or "", [])} for one in engine.models.all()
    ]


def _named(engine: Engine) -> list[tuple[EngineModel, ModelName]]:
    """Return the models of the engine with their names in the catalogue."""
    rows = {one.version_id: one for one in engine.models.select_related("version")}
    found = ModelName.objects.filter(version__in=[id for id in rows if id]).order_by("name")
    return [(rows[model.version_id], model) for model in found]


def _have_checked(engine: Engine | None) -> bool:
    """Tell the hosts that engines changed; return whether a host heard it."""
    try:
        return async_to_sync(commands.check_engine)(engine.pk if engine else None) > 0
    except (RedisError, OSError) as error:
        log.warning("Hosts can't be told of an engine", extra={"error": error})
        return False


def _rendered(
    request: HttpRequest, template: str, title: str, *, status: int = 200, **values: Any
) -> HttpResponse:
    values["may_change"] = request.user.has_perm(CHANGE)
    shown = access.context(request, title, **values)
    return render(request, f"admin/engines/{template}", shown, status=status)
