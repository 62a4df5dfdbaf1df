"""The work of a model that a program describes: of files that it has sent by their digests."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from models_admin import blobs, disk, gguf, gguf_merge, store, versions
from models_admin.jobs import quantizing
from models_admin.jobs.control import Control
from models_admin.models import Job


def work(job: Job, control: Control) -> None:
    """``options`` has the digests ``files``, ``kind`` where the weights are quantized, and the
    ``configuration``."""
    digests, configuration = job.options["files"], job.options["configuration"]
    paths = [blobs.require(digest) for digest in digests]
    with ExitStack() as made:
        path, digest = paths[0], digests[0]
        if len(paths) > 1:
            path, digest = _merged(paths, control, made)
        if job.options["kind"]:
            quantizing.make(job, path, configuration, control)
            return
        control.test(path)
        control.at("installing")
        size = path.stat().st_size
        model = versions.install(
            job.target, path, digest, size=size, origin="", configuration=configuration
        )
    control.say("installed", name=model.name)


def _merged(paths: list[Path], control: Control, made: ExitStack) -> tuple[Path, str]:
    """One file of the parts, until ``made`` ends, and its digest."""
    control.at("writing")
    disk.require_space(sum(path.stat().st_size for path in paths))
    file, path = made.enter_context(store.partial())
    try:
        with disk.full_refused():
            digest, _size = gguf_merge.merge(blobs.in_order(paths), file, control.tell_or_leave)
            file.flush()
            os.fsync(file.fileno())
    except gguf.BadGGUF as error:
        raise versions.ImportRefused(str(error)) from error
    control.say("merged", files=len(paths))
    return path, digest
