"""What needs the attention of an administrator now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.timesince import timesince
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from chatsite.backup import age
from chatsite.errors import worded
from chatsite.hosts.status import HostStatus
from chatsite.site_settings import current
from chatsite.sizes import file_size
from chatsite.supervisor import redis_repair
from models_admin import catalogue
from models_admin.adminsite.overview.activity import Activity
from models_admin.models import Job, JobState, ModelName

Level = Literal["bad", "warn"]

# Shares of errors among the recent requests, from which they are a problem, and the least number.
_ERRORS_WARN: Final = 0.05
_ERRORS_BAD: Final = 0.25
_ERRORS_LEAST: Final = 3
_LONG_WAIT: Final = 30.0
_SLOW_FIRST_TEXT: Final = 20.0
# Free memory and disk, as shares and as bytes.
_MEMORY_SHARE: Final = 0.05
_DISK_SHARE: Final = 0.1
_DISK_BYTES: Final = 5 << 30
_DISK_BAD: Final = 1 << 30
_JOB_HOURS: Final = 24


@dataclass(frozen=True)
class Problem:
    """``url`` and ``link`` lead to where it is solved, if there is such a page."""

    level: Level
    text: str | Promise
    url: str = ""
    link: str | Promise = ""


def problems(
    request: HttpRequest, hosts: Sequence[HostStatus] | None, activity: Activity | None
) -> list[Problem]:
    """Return what is wrong, worst first. ``hosts`` is None if Redis does not answer."""
    found = [
        *_of_settings(request),
        *_of_redis(hosts),
        *_of_models(hosts),
        *(_of_activity(activity) if activity else ()),
        *(problem for host in hosts or () for problem in _of_host(host)),
        *_of_jobs(),
        *_of_backups(),
    ]
    if activity is None:
        text = _("The database does not answer. Figures of requests are missing.")
        found.insert(0, Problem("bad", text))
    return sorted(found, key=lambda problem: problem.level != "bad")


def _of_settings(request: HttpRequest) -> Iterator[Problem]:
    if current().maintenance:
        url = f"{reverse('admin:settings')}#maintenance" if request.user.is_superuser else ""
        text = _("Maintenance mode is on: requests of users are refused.")
        yield Problem("warn", text, url, _("Settings"))


def _of_redis(hosts: Sequence[HostStatus] | None) -> Iterator[Problem]:
    if hosts is None:
        yield Problem("bad", _("Redis is not responding. No answer can be generated."))
    elif not hosts:
        text = _("No inference host is running. Start one with: manage.py inference")
        yield Problem("bad", text, reverse("admin:hosts"), _("Hosts"))
    for folder in redis_repair.set_aside(Path(settings.DATA_DIR) / "redis"):
        text = _(
            "The Redis data was damaged and moved to %s. Open answers were queued again from the "
            "database. Check the disk, then remove the folder."
        )
        yield Problem("warn", worded(text, folder))


def _of_models(hosts: Sequence[HostStatus] | None) -> Iterator[Problem]:
    installed = list(ModelName.objects.select_related("version"))
    if not installed:
        text = _("No model is installed. Users can't chat yet.")
        yield Problem("bad", text, reverse("admin:catalogue"), _("Choose one in the catalogue"))
    elif not any(model.enabled and not model.version.quarantined for model in installed):
        text = _("No model is available to users.")
        yield Problem("bad", text, _models(), _("Installed models"))
    elif catalogue.default_name() is None:
        text = _("There is no default model for new chats.")
        yield Problem("warn", text, _models(), _("Installed models"))
    for model in installed:
        if model.version.quarantined:
            text = _("%(model)s is quarantined: %(reason)s")
            values = {"model": model.name, "reason": model.version.quarantined[:160]}
            url = reverse("admin:models_admin_modelversion_change", args=[model.version_id])
            yield Problem("warn", worded(text, values), url, _("Show the version"))
    for host in hosts or ():
        for engine in host.engines:
            if engine.state == "down":
                text = _("The engine %(engine)s is not responding: %(reason)s")
                values = {"engine": engine.name, "reason": engine.error[:160]}
                yield Problem("warn", worded(text, values), reverse("admin:engines"), _("Engines"))
        for status in host.models:
            if status.state == "failed":
                text = _("%(model)s failed to load on %(host)s: %(reason)s")
                values = {
                    "model": status.name,
                    "host": host.hostname,
                    "reason": status.reason[:160],
                }
                yield Problem("warn", worded(text, values), reverse("admin:hosts"), _("Hosts"))


def _of_activity(activity: Activity) -> Iterator[Problem]:
    errors, requests = activity.recent_errors, activity.recent_requests
    share = errors / max(requests, 1)
    if errors >= _ERRORS_LEAST and share >= _ERRORS_WARN:
        text = ngettext_lazy(
            "%(errors)s of %(requests)s request failed in the last 15 minutes.",
            "%(errors)s of %(requests)s requests failed in the last 15 minutes.",
            requests,
        )
        level: Level = "bad" if share >= _ERRORS_BAD else "warn"
        values = {"errors": errors, "requests": requests}
        yield Problem(level, worded(text, values), failed_url(), _("Show failed requests"))
    if activity.oldest_wait >= _LONG_WAIT:
        text = _("A request has been waiting for %s seconds.")
        waits = worded(text, round(activity.oldest_wait))
        yield Problem("warn", waits, queued_url(), _("Show waiting requests"))
    if activity.ttft_p95 is not None and activity.ttft_p95 >= _SLOW_FIRST_TEXT:
        text = _("One in twenty users waits more than %s seconds for the first word.")
        yield Problem("warn", worded(text, round(activity.ttft_p95)))


def _of_host(host: HostStatus) -> Iterator[Problem]:
    if host.memory and host.memory.available < host.memory.total * _MEMORY_SHARE:
        text = _("%(host)s is short of memory: %(free)s are free.")
        values = {"host": host.hostname, "free": file_size(host.memory.available)}
        yield Problem("warn", worded(text, values), reverse("admin:hosts"), _("Hosts"))
    if host.disk and host.disk.free < min(host.disk.total * _DISK_SHARE, _DISK_BYTES):
        text = _("The disk of %(host)s is almost full: %(free)s are free.")
        values = {"host": host.hostname, "free": file_size(host.disk.free)}
        level: Level = "bad" if host.disk.free < _DISK_BAD else "warn"
        yield Problem(level, worded(text, values), _models(), _("Delete models"))


def _of_jobs() -> Iterator[Problem]:
    since = timezone.now() - timedelta(hours=_JOB_HOURS)
    failed = Job.objects.filter(state=JobState.FAILED, finished_at__gte=since).count()
    if failed:
        text = ngettext_lazy(
            "%s job failed in the last 24 hours.", "%s jobs failed in the last 24 hours.", failed
        )
        yield Problem("warn", worded(text, failed), reverse("admin:jobs"), _("Show jobs"))


def _of_backups() -> Iterator[Problem]:
    found = age.standing()
    if found is None or not found.is_stale:
        return
    if found.error:
        text = _("The folder of backups %(folder)s can't be read: %(reason)s")
        values: object = {"folder": found.folder, "reason": found.error}
    elif found.newest is None:
        text, values = _("There is no backup in %s yet."), found.folder
    else:
        text, values = _("Last backup: %s ago."), timesince(found.newest)
    yield Problem("warn", worded(text, values))


def failed_url() -> str:
    return f"{reverse('admin:chat_generation_changelist')}?state__exact=failed"


def queued_url() -> str:
    return f"{reverse('admin:chat_generation_changelist')}?state__exact=queued"


def _models() -> str:
    return reverse("admin:models_admin_modelname_changelist")
