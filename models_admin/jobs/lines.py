"""What the log of a job says. A line is stored as a code with values, and worded when it is read,
so that each reader has it in a language of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.template.defaultfilters import filesizeformat
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from models_admin.models import Job, JobLine

# `bytes` is worded as a size.
TEXTS: Final[Mapping[str, Promise]] = {
    "asked": _("Asked for by %(person)s."),
    "joined": _("Asked for by %(person)s too: this is the same job."),
    "started": _("Started, attempt %(attempt)s."),
    "found": _("The source has it: %(files)s file(s), %(bytes)s."),
    "resumed": _("Goes on behind the %(bytes)s that are here already."),
    "present": _("The file is here already: nothing has to be fetched."),
    "single": _("The source gives the file only whole: one connection."),
    "unlike": _("What had arrived did not fit what the source has now: it begins anew."),
    "again": _("Did not work: %(reason)s It is tried again in %(seconds)s s."),
    "verified": _("Verified: SHA-256 %(digest)s."),
    "unpublished": _("The source publishes no SHA-256 to hold it against; it is %(digest)s."),
    "probed": _("Loaded once for a test, and answers."),
    "own_template": _("The model has a chat template of its own, which is used."),
    "left_out": _("Left out: %(part)s. %(reason)s"),
    "merged": _("%(files)s parts became one file."),
    "installed": _("Installed as %(name)s."),
    "switched": _("%(name)s stands for the new version now; the one before is kept."),
    "unchanged": _("%(name)s stood for this version already."),
    "reduced": _("%(before)s became %(after)s."),
    "exported": _("Written to %(path)s."),
    "paused": _("Paused by %(person)s."),
    "resumed_by": _("Goes on, asked by %(person)s."),
    "cancelled": _("Cancelled by %(person)s."),
    "failed": _("Failed: %(reason)s"),
    "lost": _("The worker that did it is gone; another goes on."),
}


def write(job: Job, code: str, **values: Any) -> None:
    if code not in TEXTS:
        raise KeyError(code)
    JobLine.objects.create(job=job, code=code, values=values)


def text(line: JobLine) -> str:
    """The line in the reader's language."""
    values = dict(line.values)
    for name in ("bytes", "before", "after"):
        if name in values:
            values[name] = filesizeformat(values[name])
    return str(TEXTS[line.code]) % values
