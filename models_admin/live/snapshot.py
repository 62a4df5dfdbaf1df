"""Jobs and hosts as the administration's pages show them, in the reader's language."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.inference.status import HostStatus
from models_admin.jobs.progress import Progress
from models_admin.models import Job, JobState

_SHOWN: Final = 40
STAGES: Final[dict[str, Promise]] = {
    "finding": _("asking the source"),
    "fetching": _("downloading"),
    "testing": _("loading it for a test"),
    "installing": _("installing"),
    "quantizing": _("quantizing"),
    "reading": _("reading"),
    "writing": _("writing"),
}
_ACTIONS: Final = {
    JobState.QUEUED: ("pause", "cancel"),
    JobState.RUNNING: ("pause", "cancel"),
    JobState.PAUSED: ("resume", "cancel"),
    JobState.FAILED: ("resume",),
    JobState.CANCELLED: ("resume",),
    JobState.DONE: (),
}
_MODEL_STATES: Final[dict[str, Promise]] = {
    "measuring": _("measuring"),
    "loading": _("loading"),
    "ready": _("ready"),
    "waiting": _("waiting for memory"),
    "failed": _("failed"),
}


def jobs() -> list[Job]:
    """Those under way first, then the latest of the others."""
    found = Job.objects.select_related("asked_by").order_by("-created_at")
    under_way = list(found.filter(state__in=Job.OPEN))
    return under_way + list(found.exclude(state__in=Job.OPEN)[: max(0, _SHOWN - len(under_way))])


def running(jobs: list[Job]) -> list[str]:
    """The ids of those whose progress is shown."""
    return [str(job.pk) for job in jobs if job.state == JobState.RUNNING]


def as_dicts(jobs: list[Job], progress: dict[str, Progress]) -> list[dict[str, Any]]:
    return [as_dict(job, progress.get(str(job.pk))) for job in jobs]


def as_dict(job: Job, progress: Progress | None) -> dict[str, Any]:
    """Sizes in bytes, ``speed`` in bytes per second, ``left`` in seconds; ``can`` are the actions
    that make sense now."""
    running = job.state == JobState.RUNNING and progress is not None
    again = job.state == JobState.QUEUED and job.not_before is not None
    return {
        "id": str(job.pk),
        "kind": job.get_kind_display(),
        "target": job.target,
        "source": _source(job),
        "state": job.state,
        "state_text": str(_("waiting for its next try")) if again else job.get_state_display(),
        "wanted": job.wanted,
        "stage": str(STAGES.get(progress.stage if progress else job.stage, "")) if running else "",
        "done": progress.done if running and progress else job.done,
        "total": progress.total if running and progress else job.total,
        "speed": progress.speed if running and progress else None,
        "left": progress.left if running and progress else None,
        "error": job.error.get("message", ""),
        "by": job.asked_by.get_username() if job.asked_by else "manage.py",
        "at": job.created_at.isoformat(),
        "can": ["resume", *_ACTIONS[JobState.QUEUED]]
        if again
        else [*_ACTIONS[JobState(job.state)]],
    }


def _source(job: Job) -> str:
    if sent := job.options.get("files"):
        return ", ".join(f"sha256:{digest[:12]}" for digest in sent)
    name: str = job.options.get("file") or job.source.removeprefix("file:")
    return name


def host(found: HostStatus) -> dict[str, Any]:
    return {
        "id": found.id,
        "name": found.hostname,
        "memory": msgspec.to_builtins(found.memory),
        "devices": msgspec.to_builtins(found.devices),
        "models": [
            {
                "name": model.name,
                "state": model.state,
                "state_text": str(_MODEL_STATES[model.state]),
                "progress": model.progress,
                "busy": model.busy,
                "slots": model.slots,
                "context": model.context,
                "memory": model.rss_bytes,
                "reason": model.reason,
                "layers": model.layers,
                "on_devices": model.device_layers,
                "device_problem": model.device_problem,
                "weights": model.weights,
            }
            for model in found.models
        ],
    }
