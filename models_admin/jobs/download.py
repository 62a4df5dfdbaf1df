"""The work of a download: ask the source, fetch the weights, test them, put the name on them."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

from models_admin import (
    disk,
    gguf,
    gguf_merge,
    layers,
    partial,
    sources,
    store,
    transfer,
    versions,
)
from models_admin.jobs import states
from models_admin.jobs.control import Control
from models_admin.models import Job, ModelName
from models_admin.sources.base import Blob, Resolved


def work(job: Job, control: Control) -> None:
    control.at("finding")
    found = asyncio.run(sources.resolve(job.source))
    layers.refuse_what_is_needed(found)
    control.say("found", files=len(found.blobs), bytes=found.total)
    states.remember(job, [blob.key for blob in found.weights])
    if len(found.weights) == 1:
        _whole(job, control, found, found.weights[0])
    else:
        _in_parts(job, control, found)


def _whole(job: Job, control: Control, found: Resolved, weights: Blob) -> None:
    if weights.digest and disk.is_whole(disk.path_of(weights.digest), weights.size):
        control.say("present")
        _install(job, control, found, None, weights.digest, weights.size)
        return
    control.at("fetching")
    with partial.hold(weights.key, weights.size) as file:
        digest = transfer.fill(file, weights, control, renew=lambda: _ask_again(job, weights))
        control.say("verified" if weights.digest else "unpublished", digest=digest[:12])
        control.test(file.path)
        _install(job, control, found, file.path, digest, weights.size)


def _in_parts(job: Job, control: Control, found: Resolved) -> None:
    """A split model becomes one file: one that is mapped, checked and removed as any other."""
    control.at("fetching")
    with ExitStack() as held:
        share = _Share(control, sum(blob.size for blob in found.weights))
        files = []
        for weights in found.weights:
            file = held.enter_context(partial.hold(weights.key, weights.size))
            transfer.fill(file, weights, share, renew=lambda blob=weights: _ask_again(job, blob))  # type: ignore[misc]
            control.say("verified", digest=weights.digest[:12])
            share.before += weights.size
            files.append(file.path)
        control.at("writing")
        disk.require_space(share.total)
        with store.partial() as (target, path):
            try:
                with disk.full_refused():
                    digest, size = gguf_merge.merge(files, target, control.tell)
                    target.flush()
            except gguf.BadGGUF as error:
                raise versions.ImportRefused(str(error)) from error
            control.say("merged", files=len(files))
            control.test(path)
            _install(job, control, found, path, digest, size)


class _Share:
    """A watcher of one part, that tells of all."""

    def __init__(self, control: Control, total: int) -> None:
        self.leaving = control.leaving
        self.say = control.say
        self.before = 0
        self.total = total
        self._control = control

    def tell(self, done: int, total: int) -> None:
        self._control.tell(self.before + done, self.total)


def _ask_again(job: Job, weights: Blob) -> Blob:
    """The same content at an address that is good now."""
    for found in asyncio.run(sources.resolve(job.source)).weights:
        if (found.key, found.size) == (weights.key, weights.size):
            return found
    raise transfer.SourceChanged


def _install(
    job: Job, control: Control, found: Resolved, path: Path | None, digest: str, size: int
) -> None:
    control.at("installing")
    before = ModelName.objects.filter(name__iexact=job.target).first()
    weights = path or disk.path_of(digest)
    model = versions.install(
        job.target,
        path,
        digest,
        size=size,
        origin=job.source,
        taken=found.version,
        configuration=layers.configuration(found, weights, control.say),
    )
    control.say("installed", name=model.name)
    if before and before.version_id == model.version_id:
        control.say("unchanged", name=model.name)
    elif before:
        control.say("switched", name=model.name)
