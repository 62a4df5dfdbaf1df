"""From what people write to a job."""

from __future__ import annotations

from chatsite.accounts.models import User
from models_admin import names
from models_admin.jobs import states
from models_admin.models import Job, JobKind
from models_admin.sources import url


def download(source: str, name: str = "", *, by: User | None = None) -> tuple[Job, bool]:
    """``source`` is a name at a registry or hub, or an address; ``name`` is what it is called
    here, by default as at its source. Returns the job and whether it is new. Raises
    `BadModelName` and `JobRefused`."""
    source = source.strip()
    if url.is_url(source):
        target = name.strip() or url.model_name(source)
    else:
        source = names.normalise(source)
        target = name.strip() or source
    return states.ask(JobKind.DOWNLOAD, target, source, by=by)
