"""The work of an import and of an export: files that come from and go to this server's disk.

An import's source is ``file:<name>`` in the inbox, ``upload:<id>``, or ``blob:<digest>``, which
`creating` sees to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from uuid import UUID

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from models_admin import bundle, disk, inbox, store, versions
from models_admin.jobs import creating
from models_admin.jobs.control import Control
from models_admin.models import Job, ModelName

UPLOAD: Final = "upload:"
FILE: Final = "file:"
BLOB: Final = "blob:"


def work(job: Job, control: Control) -> None:
    if job.source.startswith(BLOB):
        creating.work(job, control)
        return
    uploaded = job.source.startswith(UPLOAD)
    id = UUID(job.source.removeprefix(UPLOAD)) if uploaded else None
    path = inbox.path_of(id) if id else inbox.find(job.source.removeprefix(FILE))
    if not path.exists():  # an earlier attempt has moved it, or it was cleaned up
        raise versions.ImportRefused(_("The file is no longer on the server. Send it again."))
    if bundle.is_bundle(path):
        _take_bundle(path, control)
    else:
        _take_file(job, path, control, move=uploaded)
    if id:
        inbox.remove(id)


def export(job: Job, control: Control) -> None:
    names = job.options.get("names", [job.target])
    models = list(ModelName.objects.filter(name__in=names).select_related("version"))
    if gone := set(names) - {model.name for model in models}:
        raise bundle.removed(", ".join(sorted(gone)))
    control.at("writing")
    path = folder() / f"models-{timezone.now():%Y%m%d-%H%M%S}-{job.pk.hex[:8]}.tar"
    bundle.write(path, models, control.tell_or_leave)
    control.say("exported", path=path.name)


def folder() -> Path:
    """Where bundles are written."""
    path = Path(settings.DATA_DIR) / "export"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def _take_file(job: Job, path: Path, control: Control, *, move: bool) -> None:
    control.test(path)
    control.at("reading")
    model = store.import_file(path, job.target, move=move, progress=control.tell_or_leave)
    control.say("verified", digest=str(model.version))
    control.say("installed", name=model.name)


def _take_bundle(path: Path, control: Control) -> None:
    for named in bundle.read_manifest(path).models:
        control.at("reading")

        def install(file: Path | None, size: int, named: bundle.Named = named) -> None:
            if file:
                control.test(file)
            model = versions.install(
                named.name,
                file,
                named.digest,
                size=size,
                origin=named.origin,
                configuration=named.configuration,
            )
            control.say("installed", name=model.name)

        here = disk.path_of(named.digest)
        if here.exists():
            control.say("present")
            install(None, here.stat().st_size)
        else:
            bundle.take_weights(path, named.digest, control.tell_or_leave, install)
