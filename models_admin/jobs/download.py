"""The work of a download: ask the source, fetch the weights, test them, put the name on them."""

from __future__ import annotations

import asyncio

from models_admin import disk, layers, partial, sources, transfer, versions
from models_admin.jobs import states
from models_admin.jobs.control import Control
from models_admin.models import Job, ModelName
from models_admin.sources.base import Blob, Resolved


def work(job: Job, control: Control) -> None:
    control.at("finding")
    found = asyncio.run(sources.resolve(job.source))
    layers.refuse_what_is_needed(found)
    weights = found.weights
    control.say("found", files=len(found.blobs), bytes=found.total)
    states.remember(job, [weights.key])
    if weights.digest and disk.is_whole(disk.path_of(weights.digest), weights.size):
        control.say("present")
        _install(job, control, found, weights.digest)
        return
    control.at("fetching")
    with partial.hold(weights.key, weights.size) as file:
        digest = transfer.fill(file, weights, control, renew=lambda: _ask_again(job, weights))
        control.say("verified" if weights.digest else "unpublished", digest=digest[:12])
        control.test(file.path)
        _install(job, control, found, digest, file)


def _ask_again(job: Job, weights: Blob) -> Blob:
    """The same content at an address that is good now."""
    found = asyncio.run(sources.resolve(job.source)).weights
    if (found.digest, found.size) != (weights.digest, weights.size):
        raise transfer.SourceChanged
    return found


def _install(
    job: Job,
    control: Control,
    found: Resolved,
    digest: str,
    file: partial.Partial | None = None,
) -> None:
    control.at("installing")
    before = ModelName.objects.filter(name__iexact=job.target).first()
    path = file.path if file else disk.path_of(digest)
    model = versions.install(
        job.target,
        file.path if file else None,
        digest,
        size=found.weights.size,
        origin=job.source,
        configuration=layers.configuration(found, path, control.say),
    )
    control.say("installed", name=model.name)
    if before and before.version_id == model.version_id:
        control.say("unchanged", name=model.name)
    elif before:
        control.say("switched", name=model.name)
