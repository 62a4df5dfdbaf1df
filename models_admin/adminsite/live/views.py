"""The admin pages for jobs and hosts, and their actions."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import msgspec
from asgiref.sync import async_to_sync
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from redis.exceptions import RedisError

from chatsite.audit.record import record
from chatsite.engine.quantize import KINDS
from chatsite.errors import ChatsiteError, ModelUnavailable
from chatsite.hosts import commands, status
from chatsite.redis_client import connect, connect_blocking
from models_admin import catalogue
from models_admin.adminsite.live import access, snapshot
from models_admin.jobs import enqueue, job_log, progress, states
from models_admin.jobs.progress import Progress
from models_admin.models import Job, ModelName

_CHANGES: Final = {
    "pause": states.pause,
    "resume": states.resume,
    "retry": states.resume,
    "cancel": states.cancel,
}


@require_http_methods(["GET", "POST"])
@access.page("view_job")
def jobs(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        return _ask(request)
    found = snapshot.jobs()
    data = snapshot.LivePage(
        csrf=get_token(request), jobs=snapshot.job_rows(found, progress_of(found))
    )
    values = {
        "live": msgspec.to_builtins(data),
        "may_add": request.user.has_perm("models_admin.add_job"),
        "models": ModelName.objects.filter(version__remote={}).order_by("name"),
        "kinds": KINDS,
    }
    return render(request, "admin/jobs.html", access.context(request, _("Jobs"), **values))


def progress_of(jobs: list[Job]) -> dict[str, Progress]:
    """Return the progress of running jobs by ID; empty if Redis does not answer."""
    try:
        with connect_blocking() as redis:
            return progress.read(redis, snapshot.running(jobs))
    except RedisError:
        return {}


def _ask(request: HttpRequest) -> HttpResponse:
    """Start a download of ``source``, saved as ``name`` if given, or a quantization if ``kind`` is.

    A refusal is shown above the form.
    """
    user = access.current_user(request)
    if not user.has_perm("models_admin.add_job"):
        return redirect("admin:jobs")
    source, name = request.POST.get("source", ""), request.POST.get("name", "")
    try:
        if kind := request.POST.get("kind", ""):
            job, new = enqueue.quantize(source, kind, name, by=user)
        else:
            job, new = enqueue.download(source, name, by=user)
    except ChatsiteError as error:
        messages.error(request, str(error))
    else:
        if new:
            # No success message: the job may still fail, and its row shows its state.
            access.record(request, job, job.source, new=True)
        else:
            messages.info(request, _("Already in progress: %s") % job.target)
    return redirect("admin:jobs")


@require_POST
@access.action("change_job")
def change(request: HttpRequest, id: UUID, action: str) -> HttpResponse:
    job = _CHANGES[action](id, access.current_user(request))
    access.record(request, job, action)
    return access.answered(job=snapshot.job_row(job, None))


@require_POST
@access.action("change_job")
def remove(request: HttpRequest, id: UUID) -> HttpResponse:
    job = states.remove(id)
    access.record(request, job, "remove")
    return access.answered(job=None)


@require_POST
@access.action("change_modelname")
def make_default(request: HttpRequest, id: UUID) -> HttpResponse:
    """Make the model that the job created the default of new chats."""
    job = Job.objects.filter(pk=id).first()
    if job is None:
        raise states.JobMissing
    catalogue.set_default(catalogue.require(job.target))
    access.record(request, job, "default")
    return access.answered(job=snapshot.job_row(job, None))


@require_GET
@access.action("view_job")
def log(request: HttpRequest, id: UUID) -> HttpResponse:
    job = Job.objects.filter(pk=id).first()
    if job is None:
        raise states.JobMissing
    found = [{"at": line.at.isoformat(), "text": job_log.text(line)} for line in job.lines.all()]
    return access.answered(lines=found)


@require_GET
@access.page("view_job")
def hosts(request: HttpRequest) -> HttpResponse:
    found = status.ask_from_thread()
    data = snapshot.LivePage(
        csrf=get_token(request),
        hosts=None if found is None else [snapshot.host_row(host) for host in found],
    )
    remote = set(ModelName.objects.exclude(version__remote={}).values_list("name", flat=True))
    local = [model for model in catalogue.offered() if model["name"] not in remote]
    values = {"live": msgspec.to_builtins(data), "models": local}
    return render(request, "admin/hosts.html", access.context(request, _("Hosts"), **values))


@require_POST
@access.action("change_modelname")
def place(request: HttpRequest, action: str) -> HttpResponse:
    """Load the model ``name`` of the form now, or unload it when it is idle."""
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
        raise states.JobRefused(
            _("The model is busy. It will be unloaded when its running answers finish.")
        )
    record(
        "model.loaded" if action == "load" else "model.unloaded",
        request=request,
        target=("model", str(model.pk), model.name),
    )
    return access.answered(name=model.name)
