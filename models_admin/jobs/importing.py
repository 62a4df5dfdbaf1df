"""The work of import and export jobs, on this server's disk."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from models_admin.jobs import bundle, incoming, job_log, verify
from models_admin.jobs.job_context import Control
from models_admin.jobs.requests import Export, ImportFile, ImportUpload
from models_admin.models import Job, ModelName
from models_admin.store import disk, files, versions


def import_file(job: Job, request: ImportFile, control: Control) -> None:
    _install(job, incoming.find(request.file), control, move=False, available=request.available)


def import_upload(job: Job, request: ImportUpload, control: Control) -> None:
    path = incoming.path_of(request.upload)
    if not path.exists():  # moved by an earlier attempt, or expired
        raise versions.ImportRefused(_("The file is no longer on this server. Upload it again."))
    _install(job, path, control, move=True, available=request.available)
    incoming.remove(request.upload)


def export(job: Job, request: Export, control: Control) -> None:
    models = list(ModelName.objects.filter(name__in=request.names).select_related("version"))
    if gone := set(request.names) - {model.name for model in models}:
        raise bundle.removed(", ".join(sorted(gone)))
    control.enter_stage("writing")
    path = folder() / f"models-{timezone.now():%Y%m%d-%H%M%S}-{job.pk.hex[:8]}.tar"
    bundle.write(path, models, control.report_or_stop)
    control.log("exported", path=path.name)


def folder() -> Path:
    """Return the folder for exported bundles."""
    path = Path(settings.DATA_DIR) / "export"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def _install(job: Job, path: Path, control: Control, *, move: bool, available: bool) -> None:
    if bundle.is_bundle(path):
        _install_bundle(job, path, control, available=available)
    else:
        _install_file(job, path, control, move=move, available=available)


def _install_file(job: Job, path: Path, control: Control, *, move: bool, available: bool) -> None:
    verify.load_test(path, control)
    control.enter_stage("reading")
    model = files.import_file(
        path, job.target, move=move, progress=control.report_or_stop, enabled=available
    )
    control.log("verified", digest=str(model.version))
    job_log.write_installed(job, model)


def _install_bundle(job: Job, path: Path, control: Control, *, available: bool) -> None:
    for named in bundle.read_manifest(path).models:
        control.enter_stage("reading")

        def install(file: Path | None, size: int, named: bundle.Named = named) -> None:
            if file:
                verify.load_test(file, control)
            model = versions.install(
                named.name,
                file,
                named.digest,
                size=size,
                origin=named.origin,
                configuration=named.configuration,
                enabled=available,
            )
            job_log.write_installed(job, model)

        here = disk.path_of(named.digest)
        if here.exists():
            control.log("present")
            install(None, here.stat().st_size)
        else:
            bundle.take_weights(path, named.digest, control.report_or_stop, install)
