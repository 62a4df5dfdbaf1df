"""The log of a job. Lines are stored as a code with values and translated when read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.errors import in_readers_language
from chatsite.sizes import file_size
from models_admin import facts
from models_admin.models import Job, JobLine, ModelName

# `bytes`, `before` and `after` are shown as sizes; `reason` comes from `in_each_language`.
TEXTS: Final[Mapping[str, Promise]] = {
    "asked": _("Requested by %(person)s."),
    "joined": _("Also requested by %(person)s; joined this job."),
    "started": _("Started, attempt %(attempt)s."),
    "found": _("Found at the source: %(files)s file(s), %(bytes)s."),
    "resumed": _("Resuming after %(bytes)s already downloaded."),
    "present": _("The file is already on this server. Nothing to download."),
    "single": _("The source does not support partial downloads. Using one connection."),
    "unlike": _("The file changed at the source. Restarting the download."),
    "again": _("Attempt failed: %(reason)s Retrying in %(seconds)s s."),
    "verified": _("Verified: SHA-256 %(digest)s."),
    "unpublished": _("The source publishes no checksum. SHA-256 of the download: %(digest)s"),
    "probed": _("Test load succeeded."),
    "base": _(
        "This is a base model without a chat template: it continues text and does not chat. "
        "Programs can use it with /v1/completions and /api/generate."
    ),
    "own_template": _("Using the model's own chat template."),
    "left_out": _("Left out: %(part)s. %(reason)s"),
    "merged": _("Merged %(files)s parts into one file."),
    "installed": _("Installed as %(name)s."),
    "installed_hidden": _(
        "Installed as %(name)s, hidden from users. Make it available under Models."
    ),
    "switched": _("%(name)s now points to the new version. The previous one is kept for rollback."),
    "unchanged": _("%(name)s is already at this version."),
    "reduced": _("Size reduced from %(before)s to %(after)s."),
    "exported": _("Written to %(path)s."),
    "paused": _("Paused by %(person)s."),
    "resumed_by": _("Resumed by %(person)s."),
    "cancelled": _("Cancelled by %(person)s."),
    "failed": _("Failed: %(reason)s"),
    "lost": _("Worker lost; another worker is resuming the job."),
}


def write(job: Job, code: str, **values: Any) -> None:
    if code not in TEXTS:
        raise KeyError(code)
    JobLine.objects.create(job=job, code=code, values=values)


def write_installed(job: Job, model: ModelName) -> None:
    """Log the model that the job installed."""
    write(job, "installed" if model.enabled else "installed_hidden", name=model.name)
    if facts.only_continues(model):
        write(job, "base")


def text(line: JobLine) -> str:
    """Return the line in the reader's language."""
    values = dict(line.values)
    for name in ("bytes", "before", "after"):
        if name in values:
            values[name] = file_size(values[name])
    if "reason" in values:
        values["reason"] = in_readers_language(values["reason"])
    return str(TEXTS[line.code]) % values
