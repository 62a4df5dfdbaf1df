"""The work of download jobs: resolve the source, fetch, verify and install the weights.

Retries happen at three levels: `transfer` repeats requests within one attempt, `run` requeues the
job after a temporary failure, and `states.sweep` requeues the job of a dead worker. Celery retries
nothing.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack
from pathlib import Path

from models_admin import sources
from models_admin.gguf import header, merge
from models_admin.jobs import job_log, ollama_layers, states, verify
from models_admin.jobs.job_context import Control
from models_admin.jobs.requests import Download
from models_admin.models import Job, ModelName
from models_admin.sources import transfer
from models_admin.sources.base import Blob, Resolved
from models_admin.store import disk, partial, versions
from models_admin.store import files as store


def work(job: Job, request: Download, control: Control) -> None:
    control.enter_stage("finding")
    found = sources.resolve(request.source)
    ollama_layers.reject_unsupported_layers(found)
    control.log("found", files=len(found.blobs), bytes=found.total)
    states.own_partial_files(job, [blob.key for blob in found.weights])
    if len(found.weights) == 1:
        _whole(job, request, control, found, found.weights[0])
    else:
        _in_parts(job, request, control, found)


def _whole(job: Job, request: Download, control: Control, found: Resolved, weights: Blob) -> None:
    if weights.digest and disk.is_whole(disk.path_of(weights.digest), weights.size):
        control.log("present")
        _install(job, request, control, found, None, weights.digest, weights.size)
        return
    control.enter_stage("fetching")
    with partial.hold(weights.key, weights.size) as file:
        renew = functools.partial(_resolve_again, request, weights)
        digest = transfer.fill(file, weights, control, renew)
        control.log("verified" if weights.digest else "unpublished", digest=digest[:12])
        verify.load_test(file.path, control)
        _install(job, request, control, found, file.path, digest, weights.size)


def _in_parts(job: Job, request: Download, control: Control, found: Resolved) -> None:
    """Merge the parts of a split model into one file, which the engine maps like any other."""
    control.enter_stage("fetching")
    with ExitStack() as held:
        share = _Share(control, sum(blob.size for blob in found.weights))
        files = []
        for weights in found.weights:
            file = held.enter_context(partial.hold(weights.key, weights.size))
            renew = functools.partial(_resolve_again, request, weights)
            transfer.fill(file, weights, share, renew)
            control.log("verified", digest=weights.digest[:12])
            share.before += weights.size
            files.append(file.path)
        control.enter_stage("writing")
        disk.require_space(share.total)
        with store.partial() as (target, path):
            try:
                with disk.full_refused():
                    digest, size = merge.merge(files, target, control.report)
                    target.flush()
            except header.BadGGUF as error:
                raise versions.ImportRefused(str(error)) from error
            control.log("merged", files=len(files))
            verify.load_test(path, control)
            _install(job, request, control, found, path, digest, size)


class _Share:
    """The watcher of one part, which reports the progress of all parts."""

    def __init__(self, control: Control, total: int) -> None:
        self.stop_requested = control.stop_requested
        self.log = control.log
        self.before = 0
        self.total = total
        self._control = control

    def report(self, done: int, total: int) -> None:
        self._control.report(self.before + done, self.total)


def _resolve_again(request: Download, weights: Blob) -> Blob:
    """Return the same content at a current URL. Raises `SourceChanged`."""
    for found in sources.resolve(request.source).weights:
        if (found.key, found.size) == (weights.key, weights.size):
            return found
    raise transfer.SourceChanged


def _install(
    job: Job,
    request: Download,
    control: Control,
    found: Resolved,
    path: Path | None,
    digest: str,
    size: int,
) -> None:
    control.enter_stage("installing")
    before = ModelName.objects.filter(name__iexact=job.target).first()
    weights = path or disk.path_of(digest)
    model = versions.install(
        job.target,
        path,
        digest,
        size=size,
        origin=request.source,
        taken=found.version,
        configuration=ollama_layers.configuration(found, weights, control.log),
    )
    job_log.write_installed(job, model)
    if before and before.version_id == model.version_id:
        control.log("unchanged", name=model.name)
    elif before:
        control.log("switched", name=model.name)
