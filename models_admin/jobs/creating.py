"""The work of `CreateModel` jobs: a model from blobs uploaded by a client."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import msgspec

from models_admin.gguf import header, merge
from models_admin.jobs import job_log, quantizing, verify
from models_admin.jobs.job_context import Control
from models_admin.jobs.requests import CreateModel
from models_admin.models import Job
from models_admin.store import blobs, disk, files, versions


def work(job: Job, request: CreateModel, control: Control) -> None:
    paths = [blobs.require(digest) for digest in request.blobs]
    configuration = msgspec.to_builtins(request.configuration)
    with ExitStack() as until_installed:
        path, digest = paths[0], request.blobs[0]
        if len(paths) > 1:
            path, digest = _merged(paths, control, until_installed)
        if request.quantization:
            quantizing.make(job, path, request.quantization, configuration, control)
            return
        verify.load_test(path, control)
        control.enter_stage("installing")
        size = path.stat().st_size
        model = versions.install(
            job.target, path, digest, size=size, origin="", configuration=configuration
        )
    job_log.write_installed(job, model)


def _merged(paths: list[Path], control: Control, scope: ExitStack) -> tuple[Path, str]:
    """Merge the parts into a file that exists until ``scope`` ends; return it and its SHA-256."""
    control.enter_stage("writing")
    disk.require_space(sum(path.stat().st_size for path in paths))
    file, path = scope.enter_context(files.partial())
    try:
        with disk.full_refused():
            digest, _size = merge.merge(blobs.in_order(paths), file, control.report_or_stop)
            file.flush()
            os.fsync(file.fileno())
    except header.BadGGUF as error:
        raise versions.ImportRefused(str(error)) from error
    control.log("merged", files=len(paths))
    return path, digest
