"""The pages for jobs and hosts, and what the buttons on them do."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from redis import Redis
from redis.exceptions import RedisError

from chatsite.dispatch.connection import connect
from chatsite.engine.quantize import KINDS
from chatsite.errors import ChatsiteError, ModelUnavailable
from chatsite.inference import commands
from models_admin import catalogue, dashboard
from models_admin.jobs import asking, lines, progress, states
from models_admin.jobs.progress import Progress
from models_admin.live import access, snapshot
from models_admin.models import Job, ModelName

_REDIS_SECONDS: Final = 2.0
_CHANGES: Final = {"pause": states.pause, "resume": states.resume, "cancel": states.cancel}


@require_http_methods(["GET", "POST"])
@access.page("view_job")
def jobs(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        return _ask(request)
    found = snapshot.jobs()
    data = {"jobs": snapshot.as_dicts(found, _progress(found)), "csrf": get_token(request)}
    values = {
        "live": data,
        "may_add": request.user.has_perm("models_admin.add_job"),
        "models": ModelName.objects.order_by("name"),
        "kinds": KINDS,
    }
    return render(request, "admin/jobs.html", access.context(request, _("Jobs"), **values))


def _progress(jobs: list[Job]) -> dict[str, Progress]:
    try:
        with Redis.from_url(
            settings.REDIS_URL, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS
        ) as redis:
            return progress.read(redis, snapshot.running(jobs))
    except RedisError:
        return {}


def _ask(request: HttpRequest) -> HttpResponse:
    """A download, asked for by a form: ``source``, and ``name`` where another is wanted; with a
    ``kind`` a quantization of ``source``."""
    person = access.person(request)
    if not person.has_perm("models_admin.add_job"):
        return redirect("admin:jobs")
    source, name = request.POST.get("source", ""), request.POST.get("name", "")
    try:
        if kind := request.POST.get("kind", ""):
            job, new = asking.quantize(source, kind, name, by=person)
        else:
            job, new = asking.download(source, name, by=person)
    except ChatsiteError as error:
        messages.error(request, str(error))
    else:
        if new:
            access.record(request, job, job.source, new=True)
        text = _("Begun: %s.") if new else _("Under way already: %s.")
        messages.success(request, text % job.target)
    return redirect("admin:jobs")


@require_POST
@access.action("change_job")
def change(request: HttpRequest, id: UUID, action: str) -> HttpResponse:
    job = _CHANGES[action](id, access.person(request))
    access.record(request, job, action)
    return access.answered(job=snapshot.as_dict(job, None))


@require_GET
@access.action("view_job")
def log(request: HttpRequest, id: UUID) -> HttpResponse:
    job = Job.objects.filter(pk=id).first()
    if job is None:
        raise states.JobMissing
    found = [{"at": line.at.isoformat(), "text": lines.text(line)} for line in job.lines.all()]
    return access.answered(lines=found)


@require_GET
@access.page("view_job")
def hosts(request: HttpRequest) -> HttpResponse:
    found = dashboard.hosts()
    data: dict[str, Any] = {
        "hosts": None if found is None else [snapshot.host(host) for host in found],
        "csrf": get_token(request),
    }
    values = {"live": data, "models": catalogue.offered()}
    return render(request, "admin/hosts.html", access.context(request, _("Hosts"), **values))


@require_POST
@access.action("change_modelname")
def place(request: HttpRequest, action: str) -> HttpResponse:
    """Loads a model now, or lets an idle one go: ``name`` in the form."""
    model = catalogue.require(request.POST.get("name", ""))

    async def ask() -> int:
        redis = connect()
        try:
            if action == "load":
                await commands.load(redis, model.name)
                return 0
            return await commands.unload(redis, model.version_id)
        finally:
            await redis.aclose()

    try:
        busy = async_to_sync(ask)()
    except RedisError as error:
        raise ModelUnavailable from error
    if busy:
        raise states.JobRefused(_("It writes answers now and stays until they are done."))
    return access.answered(name=model.name)
