"""Jobs and hosts as shown on the admin pages, in the reader's language.

`manage.py docs` writes the types as TypeScript, see `chatsite.management.typescript`.
"""

from __future__ import annotations

from typing import Any, Final, Literal, cast

import msgspec
from django.db.models import Exists, OuterRef
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from msgspec import UNSET, UnsetType

from chatsite.errors import in_readers_language
from chatsite.hosts.status import HostDevice, HostMemory, HostStatus, ModelState
from models_admin.jobs.progress import Progress
from models_admin.models import Job, JobKind, JobState, ModelName

SHOWN: Final = 40
STAGES: Final[dict[str, Promise]] = {
    "finding": _("contacting the source"),
    "fetching": _("downloading"),
    "testing": _("test load"),
    "installing": _("installing"),
    "quantizing": _("quantizing"),
    "reading": _("reading"),
    "writing": _("writing"),
}
_ACTIONS: Final = {
    JobState.QUEUED: ("pause", "cancel"),
    JobState.RUNNING: ("pause", "cancel"),
    JobState.PAUSED: ("resume", "cancel"),
    JobState.FAILED: ("retry", "remove"),
    JobState.CANCELLED: ("retry", "remove"),
    JobState.DONE: ("remove",),
}
MODEL_STATES: Final[dict[str, Promise]] = {
    "tuning": _("tuning"),
    "loading": _("loading"),
    "ready": _("ready"),
    "waiting": _("waiting for memory"),
    "failed": _("failed"),
    "unreachable": _("unreachable"),
}
ENGINE_STATES: Final[dict[str, Promise]] = {
    "ready": _("ready"),
    "checking": _("checking"),
    "down": _("unreachable"),
}


class JobRow(msgspec.Struct, frozen=True):
    """A job; ``done`` and ``total`` are in bytes, ``speed`` in bytes/s, ``left`` in seconds.

    ``can`` lists the actions that are possible now.
    """

    id: str
    kind: str
    target: str
    source: str
    state: Literal["queued", "running", "paused", "done", "failed", "cancelled"]
    state_text: str
    wanted: str
    stage: str
    done: int
    total: int
    speed: float | None
    left: float | None
    error: str
    by: str
    at: str
    can: list[str]


class ModelRow(msgspec.Struct, frozen=True):
    """A model on a host; ``memory`` is in bytes, ``context`` in tokens per slot.

    ``on_devices`` of the ``layers`` are on GPUs. A ``remote`` model is computed by engines.
    """

    name: str
    state: ModelState
    state_text: str
    progress: float | None
    busy: int
    slots: int
    context: int
    memory: int
    reason: str
    layers: int
    on_devices: int
    device_problem: str
    weights: str
    remote: bool


class HostRow(msgspec.Struct, frozen=True):
    """A host. ``draining``: it ends soon and takes no more requests."""

    id: str
    name: str
    draining: bool
    memory: HostMemory | None
    devices: tuple[HostDevice, ...]
    models: list[ModelRow]


class Snapshot(msgspec.Struct, frozen=True):
    """A message of the socket."""

    hosts: list[HostRow]
    jobs: list[JobRow]


class LivePage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The data that a page is rendered with. ``hosts`` is null if Redis does not answer."""

    csrf: str
    hosts: list[HostRow] | UnsetType | None = UNSET
    jobs: list[JobRow] | UnsetType = UNSET


def jobs() -> list[Job]:
    """Return open jobs first, then the most recent others, `SHOWN` in total."""
    candidates = ModelName.objects.filter(name=OuterRef("target"), enabled=True, is_default=False)
    found = Job.objects.select_related("asked_by").order_by("-created_at")
    found = found.annotate(may_be_default=Exists(candidates))
    shown: list[Job] = [*found.filter(state__in=Job.OPEN)]
    shown += found.exclude(state__in=Job.OPEN)[: max(0, SHOWN - len(shown))]
    return shown


def running(jobs: list[Job]) -> list[str]:
    """Return the IDs of running jobs, whose progress is shown."""
    return [str(job.pk) for job in jobs if job.state == JobState.RUNNING]


def job_rows(jobs: list[Job], progress: dict[str, Progress]) -> list[JobRow]:
    return [job_row(job, progress.get(str(job.pk))) for job in jobs]


def job_row(job: Job, progress: Progress | None) -> JobRow:
    running = job.state == JobState.RUNNING and progress is not None
    again = job.state == JobState.QUEUED and job.not_before is not None
    return JobRow(
        id=str(job.pk),
        kind=str(job.get_kind_display()),
        target=job.target,
        source=job.source,
        state=cast(Any, job.state),
        state_text=str(_("waiting to retry") if again else job.get_state_display()),
        wanted=job.wanted,
        stage=str(STAGES.get(progress.stage if progress else job.stage, "")) if running else "",
        done=progress.done if running and progress else job.done,
        total=progress.total if running and progress else job.total,
        speed=progress.speed if running and progress else None,
        left=progress.left if running and progress else None,
        error=in_readers_language(job.error.get("texts") or job.error.get("message", "")),
        by=job.asked_by.get_username() if job.asked_by else "manage.py",
        at=job.created_at.isoformat(),
        can=_actions(job, again=again),
    )


def _actions(job: Job, *, again: bool) -> list[str]:
    if again:
        return ["retry", *_ACTIONS[JobState.QUEUED]]
    found = [*_afterwards(job), *_ACTIONS[JobState(job.state)]]
    if not job.error.get("curable", True):
        found.remove("retry")
    return found


def _afterwards(job: Job) -> list[str]:
    """Return actions that follow a job that created a model; only for jobs from `jobs`."""
    made = job.state == JobState.DONE and job.kind != JobKind.EXPORT
    return ["default"] if made and getattr(job, "may_be_default", False) else []


def host_row(found: HostStatus) -> HostRow:
    return HostRow(
        id=found.id,
        name=found.hostname,
        draining=found.draining,
        memory=found.memory,
        devices=found.devices,
        models=[
            ModelRow(
                name=model.name,
                state=model.state,
                state_text=str(MODEL_STATES[model.state]),
                progress=model.progress,
                busy=model.busy,
                slots=model.slots,
                context=model.context,
                memory=model.rss_bytes,
                reason=model.reason,
                layers=model.layers,
                on_devices=model.device_layers,
                device_problem=model.device_problem,
                weights=model.weights,
                remote=model.remote,
            )
            for model in found.models
        ],
    )
